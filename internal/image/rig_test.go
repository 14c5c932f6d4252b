package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// noise is n bytes of which every second page is zero, so that it packs.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{seed})
	for at := 0; at < n; at += 8192 {
		_, _ = r.Read(b[at:min(n, at+4096)])
	}
	return b
}

// ext4 gives content a superblock that the probe takes for one.
func ext4(content []byte, id byte) []byte {
	binary.LittleEndian.PutUint16(content[1024+56:], 0xef53)
	binary.LittleEndian.PutUint32(content[1024+96:], 0x40)
	for i := range 16 {
		content[1024+104+i] = id
	}
	return content
}

func fat(content []byte) []byte {
	copy(content[82:], "FAT32   ")
	content[510], content[511] = 0x55, 0xaa
	binary.LittleEndian.PutUint32(content[67:], 0xc3d4250d)
	return content
}

func partType(t testing.TB, name string) gpt.GUID {
	t.Helper()
	g, ok := ParsePartType(name, AMD64)
	if !ok {
		t.Fatal(name)
	}
	return g
}

const small, large = 3<<20 + 4096, 40 << 20 // bytes of the root partition

// sample is a disk of three partitions, and what is to be said of them.
func sample(t testing.TB, size int) (Spec, [][]byte) {
	t.Helper()
	content := [][]byte{fat(noise(1, 300<<10)), ext4(noise(2, size), 7), noise(3, 64<<10)}
	var parts []Part
	for i, name := range []string{"esp", "root", "root-verity"} {
		parts = append(parts, Part{Name: name, Type: partType(t, name), Content: bytes.NewReader(content[i]), Size: int64(len(content[i]))})
	}
	disk, diskSize, err := Assemble(parts)
	if err != nil {
		t.Fatal(err)
	}
	return Spec{
		Arch: AMD64, OSRelease: "ID=debian\n", Disk: disk, DiskSize: diskSize, Temp: t.TempDir(),
		Bootloader: Bootloader{Type: GRUB},
		Mounts:     []Mount{{Number: 1, MountPoint: "/boot/efi"}, {Number: 2, MountPoint: "/", HashTree: 3, RootHash: digestA[:64]}},
	}, content
}

// build writes the sample to a file.
func build(t testing.TB, size int) (path, sha384 string, content [][]byte) {
	t.Helper()
	spec, content := sample(t, size)
	var b bytes.Buffer
	sha384, err := Write(t.Context(), &b, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return save(t, b.Bytes()), sha384, content
}

func save(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.cosi")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func open(ctx context.Context, t testing.TB, url, sha384 string) (*Image, error) {
	t.Helper()
	i, err := Open(ctx, fetch.Source{URL: url}, sha384, Options{Log: func(s string) { t.Log(s) }, Limits: fetch.Limits{Attempts: 4}})
	if err == nil {
		t.Cleanup(func() { _ = i.Close() })
	}
	return i, err
}

func mustOpen(t testing.TB, path, sha384 string) *Image {
	t.Helper()
	i, err := open(t.Context(), t, "file://"+path, sha384)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func wantKind(t *testing.T, err error, kind errkind.Kind) {
	t.Helper()
	if err == nil || errkind.Of(err) != kind {
		t.Errorf("got %v (%s), want %s", err, errkind.Of(err), kind)
	}
}
