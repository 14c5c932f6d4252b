package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An image is a container image: programs of this project in /usr/bin, and nothing of an
// operating system. tridentd runs the tools of the host (package internal/container).
type image struct {
	name, description string
	programs          []string // the first one is the entry point
}

func images() []image {
	return []image{
		{"trident-daemon", "tridentd for the host that runs the container", []string{"tridentd"}},
		{"trident", "trident and tridentd for the host that runs the container, for one command", []string{"trident-container", "trident", "tridentd"}},
	}
}

// containers publishes in dir an archive for each image and architecture, in the layout of
// the OCI, the bill of materials of all, and the checksums.
func (p project) containers(ctx context.Context, dir string) error {
	if err := checkSigner(ctx, "the checksums"); err != nil {
		return err
	}
	builds, err := p.containerBuilds()
	if err != nil {
		return err
	}
	cfg := *p.cfg
	cfg.Builds = builds
	p.cfg = &cfg
	return publish(dir, func(dir string) error {
		for _, b := range builds {
			for _, arch := range p.arches(b) {
				if err := p.compile(ctx, b, arch); err != nil {
					return fmt.Errorf("build %s for %s: %w", b.ID, arch, err)
				}
			}
		}
		for _, arch := range p.arches(builds[0]) {
			for _, i := range images() {
				if err := p.writeImage(i, arch, dir); err != nil {
					return fmt.Errorf("make the container image %s for %s: %w", i.name, arch, err)
				}
			}
		}
		if err := p.writeSBOM(dir); err != nil {
			return fmt.Errorf("write the bill of materials: %w", err)
		}
		return writeSums(ctx, dir)
	})
}

// containerBuilds returns the builds of the programs in the images. Packages do not have the
// entry point trident-container, so it is built like trident and has no definition of its own.
func (p project) containerBuilds() ([]build, error) {
	var out []build
	for _, id := range []string{"trident", "tridentd"} {
		i := slices.IndexFunc(p.cfg.Builds, func(b build) bool { return b.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("make container images: the definitions of the packages have no build %s", id)
		}
		out = append(out, p.cfg.Builds[i])
	}
	entry := out[0]
	entry.ID, entry.Main, entry.Binary = "trident-container", "./cmd/trident-container", "trident-container"
	return append(out, entry), nil
}

// writeImage writes NAME_VERSION_ARCH.tar.
func (p project) writeImage(i image, arch, dir string) error {
	files := []file{{"usr/share/licenses/trident/LICENSE", "LICENSE", 0o644}}
	for _, name := range i.programs {
		b := p.cfg.Builds[slices.IndexFunc(p.cfg.Builds, func(b build) bool { return b.ID == name })]
		path, _, err := p.binary(b, arch)
		if err != nil {
			return err
		}
		files = append(files, file{"usr/bin/" + name, path, 0o755})
	}
	packed, diffID, err := layer(files, p.epoch)
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(dir, i.name+"_"+p.version+"_"+arch+".tar"))
	if err != nil {
		return err
	}
	defer out.Close()
	if err := writeArchive(out, p.describe(i, arch, diffID), packed, i.name+":"+tag(p.version)); err != nil {
		return err
	}
	return out.Close()
}

// tag returns the tag for a version; a tag cannot have the plus sign of build metadata.
func tag(version string) string { return strings.ReplaceAll(version, "+", "_") }

// describe returns the configuration of an image.
func (p project) describe(i image, arch string, diffID godigest.Digest) ocispec.Image {
	return ocispec.Image{
		Created:  &p.epoch,
		Author:   "Trident project",
		Platform: ocispec.Platform{Architecture: arch, OS: "linux"},
		Config: ocispec.ImageConfig{
			Entrypoint: []string{"/usr/bin/" + i.programs[0]},
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DOCKER_ENVIRONMENT=true", "GODEBUG=disablethp=1"}, // as in tridentd.service
			WorkingDir: "/",
			Labels: map[string]string{
				ocispec.AnnotationTitle: i.name, ocispec.AnnotationDescription: i.description, ocispec.AnnotationVersion: p.version,
				ocispec.AnnotationLicenses: "MIT", ocispec.AnnotationVendor: "Trident project", ocispec.AnnotationSource: "https://github.com/trident-project/trident",
			},
			StopSignal: "SIGTERM",
		},
		RootFS:  ocispec.RootFS{Type: "layers", DiffIDs: []godigest.Digest{diffID}},
		History: []ocispec.History{{Created: &p.epoch, CreatedBy: "make containers"}},
	}
}

// A file of an image: where it lies there, and where its bytes are.
type file struct {
	name, source string
	mode         int64
}

// layer returns a compressed layer with the files, their folders and an empty /tmp, and the
// digest of its uncompressed bytes. The same files and date make the same bytes.
func layer(files []file, date time.Time) ([]byte, godigest.Digest, error) {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, "", err
	}
	sum := godigest.Canonical.Digester()
	t := tar.NewWriter(io.MultiWriter(z, sum.Hash()))
	made := map[string]bool{}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	folder := func(name string, mode int64) error {
		made[name] = true
		return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: date, Format: tar.FormatPAX})
	}
	if err := folder("tmp", 0o1777); err != nil {
		return nil, "", err
	}
	for _, f := range files {
		for at, c := range f.name {
			if dir := f.name[:at]; c == '/' && !made[dir] {
				if err := folder(dir, 0o755); err != nil {
					return nil, "", err
				}
			}
		}
		data, err := os.ReadFile(f.source)
		if err != nil {
			return nil, "", err
		}
		if err := addFile(t, f.name, data, f.mode, date); err != nil {
			return nil, "", err
		}
	}
	if err := t.Close(); err != nil {
		return nil, "", err
	}
	if err := z.Close(); err != nil {
		return nil, "", err
	}
	return packed.Bytes(), sum.Digest(), nil
}

func addFile(t *tar.Writer, name string, data []byte, mode int64, date time.Time) error {
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: mode, ModTime: date, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := t.Write(data)
	return err
}

// writeArchive writes an image as an archive of the OCI image layout
// (github.com/opencontainers/image-spec, image-layout.md), which podman and skopeo read, with
// the file manifest.json of older versions of Docker. ref is its name and tag.
func writeArchive(w io.Writer, config ocispec.Image, packed []byte, ref string) error {
	var blobs [][]byte
	blob := func(mediaType string, data []byte) ocispec.Descriptor {
		blobs = append(blobs, data)
		return ocispec.Descriptor{MediaType: mediaType, Digest: godigest.FromBytes(data), Size: int64(len(data))}
	}
	configText, err := json.Marshal(config)
	if err != nil {
		return err
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: blob(ocispec.MediaTypeImageConfig, configText), Layers: []ocispec.Descriptor{blob(ocispec.MediaTypeImageLayerGzip, packed)},
		Annotations: map[string]string{ocispec.AnnotationVersion: config.Config.Labels[ocispec.AnnotationVersion]},
	}
	manifestText, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	entry := blob(ocispec.MediaTypeImageManifest, manifestText)
	entry.Platform = &config.Platform
	_, version, _ := strings.Cut(ref, ":")
	entry.Annotations = map[string]string{ocispec.AnnotationRefName: version, "io.containerd.image.name": "localhost/" + ref}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{entry}})
	if err != nil {
		return err
	}
	path := func(d godigest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }
	docker, err := json.Marshal([]map[string]any{{
		"Config": path(manifest.Config.Digest), "RepoTags": []string{"localhost/" + ref}, "Layers": []string{path(manifest.Layers[0].Digest)},
	}})
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	add := func(name string, data []byte) error { return addFile(t, name, data, 0o644, *config.Created) }
	if err := add(ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`)); err != nil {
		return err
	}
	for _, data := range blobs {
		if err := add(path(godigest.FromBytes(data)), data); err != nil {
			return err
		}
	}
	if err := add(ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	if err := add("manifest.json", docker); err != nil {
		return err
	}
	return t.Close()
}
