package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	orascontent "oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"
)

// withPrograms returns a project whose programs are compiled: files with their names.
func withPrograms(t *testing.T) project {
	t.Helper()
	t.Chdir(t.TempDir())
	var p project
	p.cfg = &config{Dist: "dist/build"}
	p.version, p.epoch = "1.2.3+build.5", time.Unix(1700000000, 0).UTC()
	for _, id := range []string{"tridentd", "trident"} {
		p.cfg.Builds = append(p.cfg.Builds, build{ID: id, Main: "./cmd/" + id, Binary: id, GOARCH: []string{"amd64", "arm64"}})
	}
	builds, err := p.containerBuilds()
	if err != nil {
		t.Fatal(err)
	}
	p.cfg.Builds = builds
	if err := os.WriteFile("LICENSE", []byte("licence\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, b := range builds {
		for _, arch := range p.arches(b) {
			path, _, err := p.binary(b, arch)
			if err == nil {
				err = os.MkdirAll(filepath.Dir(path), 0o700)
			}
			if err == nil {
				err = os.WriteFile(path, []byte(b.ID+" for "+arch), 0o700)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return p
}

// Another reader of the layout, which checks digests and sizes, finds the image whole.
func TestAnotherReaderFindsTheContainerImageWhole(t *testing.T) {
	p := withPrograms(t)
	for _, i := range images() {
		for _, arch := range []string{"amd64", "arm64"} {
			if err := p.writeImage(i, arch, "."); err != nil {
				t.Fatal(err)
			}
			store, err := oci.NewFromTar(t.Context(), i.name+"_1.2.3+build.5_"+arch+".tar")
			if err != nil {
				t.Fatal(err)
			}
			entry, err := store.Resolve(t.Context(), "1.2.3_build.5")
			if err != nil {
				t.Fatal(err)
			}
			if want := "localhost/" + i.name + ":1.2.3_build.5"; entry.Annotations["io.containerd.image.name"] != want {
				t.Errorf("the name is %v, want %s", entry.Annotations, want)
			}
			var manifest ocispec.Manifest
			decode(t, store, entry, &manifest)
			var got ocispec.Image
			decode(t, store, manifest.Config, &got)
			want := ocispec.ImageConfig{Entrypoint: []string{"/usr/bin/" + i.programs[0]}, Env: got.Config.Env, Labels: got.Config.Labels, WorkingDir: "/", StopSignal: "SIGTERM"}
			if diff := cmp.Diff(want, got.Config); diff != "" || got.Architecture != arch || got.OS != "linux" || !got.Created.Equal(p.epoch) {
				t.Errorf("%s for %s: %+v\n%s", i.name, arch, got, diff)
			}
			if !slices.Contains(got.Config.Env, "DOCKER_ENVIRONMENT=true") {
				t.Errorf("the environment is %q", got.Config.Env)
			}
			packed, err := orascontent.FetchAll(t.Context(), store, manifest.Layers[0])
			if err != nil {
				t.Fatal(err)
			}
			checkLayer(t, packed, got.RootFS.DiffIDs, i, arch)
		}
	}
}

func decode(t *testing.T, store orascontent.Fetcher, d ocispec.Descriptor, into any) {
	t.Helper()
	data, err := orascontent.FetchAll(t.Context(), store, d)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func checkLayer(t *testing.T, packed []byte, ids []godigest.Digest, i image, arch string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	files, got := tar.NewReader(io.TeeReader(z, sum)), map[string]string{}
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 1700000000 {
			t.Errorf("%s depends on the builder: %+v", h.Name, h)
		}
		if _, ok := got[h.Name]; ok {
			t.Errorf("%s is there twice", h.Name)
		}
		got[h.Name] = fmt.Sprintf("%o %s", h.Mode, data)
	}
	want := map[string]string{
		"tmp/": "1777 ", "usr/": "755 ", "usr/bin/": "755 ", "usr/share/": "755 ", "usr/share/licenses/": "755 ",
		"usr/share/licenses/trident/": "755 ", "usr/share/licenses/trident/LICENSE": "644 licence\n",
	}
	for _, name := range i.programs {
		want["usr/bin/"+name] = "755 " + name + " for " + arch
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files of %s (-want +got):\n%s", i.name, diff)
	}
	if _, err := io.Copy(sum, z); err != nil {
		t.Fatal(err)
	}
	if len(ids) != 1 || ids[0].Encoded() != fmt.Sprintf("%x", sum.Sum(nil)) {
		t.Errorf("the digest of the unpacked layer is %x, not %v", sum.Sum(nil), ids)
	}
}

func TestTwoBuildsOfAContainerImageAreEqual(t *testing.T) {
	p := withPrograms(t)
	var made [2][]byte
	for n := range made {
		dir := t.TempDir()
		if err := p.writeImage(images()[0], "arm64", dir); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, "trident-daemon_1.2.3+build.5_arm64.tar"))
		if err != nil {
			t.Fatal(err)
		}
		made[n] = data
		// Neither the time nor the mode of the compiled program is in the image.
		path, _, err := p.binary(p.cfg.Builds[1], "arm64")
		if err == nil {
			err = os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0))
		}
		if err == nil {
			err = os.Chmod(path, 0o500)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("the images differ")
	}
}

// Docker before release 25 reads manifest.json only.
func TestOlderDockerFindsTheImage(t *testing.T) {
	p := withPrograms(t)
	if err := p.writeImage(images()[1], "amd64", "."); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("trident_1.2.3+build.5_amd64.tar")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := map[string][]byte{}
	for files := tar.NewReader(f); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if in[h.Name], err = io.ReadAll(files); err != nil {
			t.Fatal(err)
		}
	}
	var list []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(in["manifest.json"], &list); err != nil || len(list) != 1 || len(list[0].Layers) != 1 {
		t.Fatalf("%v: %s", err, in["manifest.json"])
	}
	var got ocispec.Image
	if err := json.Unmarshal(in[list[0].Config], &got); err != nil || got.Architecture != "amd64" || len(in[list[0].Layers[0]]) == 0 {
		t.Errorf("%v: %+v", err, got)
	}
	if diff := cmp.Diff([]string{"localhost/trident:1.2.3_build.5"}, list[0].RepoTags); diff != "" {
		t.Error(diff)
	}
}

func TestAProgramThatIsNotCompiledIsNamed(t *testing.T) {
	p := withPrograms(t)
	if err := os.RemoveAll("dist/build/tridentd_linux_arm64"); err != nil {
		t.Fatal(err)
	}
	if err := p.writeImage(images()[0], "arm64", "."); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	p.cfg = &config{}
	if _, err := p.containerBuilds(); err == nil {
		t.Error("definitions without programs make images")
	}
}
