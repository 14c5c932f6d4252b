package servicing

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/image"
)

// album has the images of operating systems of the tests, made once.
type album struct {
	v1, v2, panics, broken, corrupt, sick, selinux osImage
}

type osImage struct {
	version, path, sha string
}

func newAlbum(t testing.TB) *album { return albumOf(t, osImageOf) }

// albumOf is an album of images that imageOf makes.
func albumOf(t testing.TB, imageOf func(t testing.TB, version, id string, more fstest.MapFS) osImage) *album {
	a := &album{
		v1: imageOf(t, "v1", "11", nil), v2: imageOf(t, "v2", "22", nil),
		panics: imageOf(t, "v3", "33", fstest.MapFS{"panic": {Data: []byte("x")}}),
		broken: imageOf(t, "v4", "44", fstest.MapFS{"usr/bin/tridentd.broken": {Data: []byte("x")}}),
		sick:   imageOf(t, "v5", "55", nil),
		selinux: imageOf(t, "v7", "77", fstest.MapFS{
			"etc/selinux/config":                              {Data: []byte("SELINUX=enforcing\nSELINUXTYPE=strict\n"), Mode: 0o644},
			"etc/selinux/strict/contexts/files/file_contexts": {Data: []byte("/.* system_u:object_r:any_t:s0\n"), Mode: 0o644},
		}),
	}
	a.corrupt = imageOf(t, "v6", "66", nil)
	data, err := os.ReadFile(a.corrupt.path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-2048-1024] ^= 1 // in the last image
	if err := os.WriteFile(a.corrupt.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// osImageOf makes the image of a version. Its boot files and its root file system
// both say which it is.
func osImageOf(t testing.TB, version, id string, more fstest.MapFS) osImage {
	t.Helper()
	return assembled(t, version, id, boottest.ESP(boot.AMD64, version), more, "", nil)
}

// assembled is an image with these boot files. Change, if it is not nil, makes of its root
// file system what it will be, and the metadata calls that typ unless it is "". The image
// carries the extensions.
func assembled(t testing.TB, version, id string, bootFiles, more fstest.MapFS, typ string, change func([]byte) []byte, carried ...image.ExtensionSpec) osImage {
	t.Helper()
	files := fstest.MapFS{
		"usr/share/version":         {Data: []byte(version + "\n"), Mode: 0o644},
		"usr/lib/os-release":        {Data: []byte("ID=test\nIMAGE_VERSION=" + version + "\n"), Mode: 0o644},
		"usr/bin/tridentd":          {Data: []byte("tridentd"), Mode: 0o755},
		"usr/lib/trident/base.json": {Data: []byte(`{"version":"1.0.0"}`), Mode: 0o644},
		"etc/machine-id":            {Data: []byte("uninitialized\n"), Mode: 0o444},
		"etc/hostname":              {Data: []byte("image\n"), Mode: 0o644},
		"etc/fstab":                 {Data: []byte("# the image's own\n"), Mode: 0o644},
	}
	for name, f := range more {
		files[name] = f
	}
	uuid := id + id + id + id + "-0000-4000-8000-0000000000" + id
	esp := fileSystem("vfat", id+id+id+id, bootFiles)
	root := fileSystem("ext4", uuid, files)
	if change != nil {
		root = change(root)
	}
	pad := func(b []byte) []byte { return append(b, make([]byte, (4096-len(b)%4096)%4096)...) }
	esp, root = pad(esp), pad(root)
	var parts []image.Part
	for name, content := range map[string][]byte{"esp": esp, "root": root} {
		typ, ok := image.ParsePartType(name, image.AMD64)
		if !ok {
			t.Fatal(name)
		}
		parts = append(parts, image.Part{Name: name, Type: typ, Content: bytes.NewReader(content), Size: int64(len(content))})
	}
	if parts[0].Name != "esp" {
		parts[0], parts[1] = parts[1], parts[0]
	}
	disk, size, err := image.Assemble(parts)
	if err != nil {
		t.Fatal(err)
	}
	rootMount := image.Mount{Number: 2, MountPoint: "/"}
	if typ != "" {
		rootMount.Type, rootMount.UUID = typ, uuid
	}
	loader := image.Bootloader{Type: image.SystemdBoot, SystemdBoot: &image.SystemdBootSet{Entries: []image.BootEntry{
		{Type: image.UKIStandalone, Path: "/boot/efi/EFI/Linux/test.efi", Cmdline: "quiet", Kernel: version},
	}}}
	if _, ok := bootFiles["EFI/BOOT/grub.cfg"]; ok {
		loader = image.Bootloader{Type: image.GRUB}
	}
	var out bytes.Buffer
	sha, err := image.Write(t.Context(), &out, image.Spec{
		Arch: image.AMD64, OSRelease: "ID=test\n", Disk: disk, DiskSize: size, Temp: t.TempDir(),
		Bootloader: loader, Packages: []image.Package{}, Extensions: carried,
		Mounts: []image.Mount{{Number: 1, MountPoint: "/boot/efi"}, rootMount},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tempDir(t), version+".cosi")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return osImage{version: version, path: path, sha: sha}
}

// hang makes the images files of a host.
func (a *album) hang(t testing.TB, dir string) {
	t.Helper()
	if err := hosttest.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	for _, i := range []osImage{a.v1, a.v2, a.panics, a.broken, a.corrupt, a.sick, a.selinux} {
		if i.path == "" {
			continue
		}
		if err := os.Symlink(i.path, filepath.Join(dir, filepath.Base(i.path))); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
}
