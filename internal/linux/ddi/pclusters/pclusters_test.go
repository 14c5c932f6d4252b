package pclusters_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/damage"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// tree is the content of the file systems in testdata.
func tree() map[string][]byte {
	var text, noise []byte
	for i := range 2500 {
		text = fmt.Appendf(text, "line %d of the text\n", i)
	}
	for i := range 200 {
		sum := sha256.Sum256([]byte(strconv.Itoa(i)))
		noise = append(noise, sum[:]...)
	}
	return map[string][]byte{
		"small": []byte("small\n"), "text": text, "zeros": make([]byte, 300_000),
		"mixed": bytes.Join([][]byte{text[:20_000], noise, text}, nil),
	}
}

func sample(tb testing.TB, name string) []byte {
	tb.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".erofs.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func open(data []byte) (fs.FS, error) {
	return ddi.OpenErofs(io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))))
}

func checkTree(t *testing.T, data []byte, want map[string][]byte) {
	t.Helper()
	fsys, err := open(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range want {
		if got, err := fs.ReadFile(fsys, name); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v; want %d bytes", name, len(got), err, len(content))
		}
	}
}

func TestEveryAlgorithmIsRead(t *testing.T) {
	for _, name := range []string{"lz4", "lz4-big", "zstd", "deflate", "two"} {
		t.Run(name, func(t *testing.T) { checkTree(t, sample(t, name), tree()) })
	}
}

func TestOtherFormsOfCompressionAreUnsupported(t *testing.T) {
	for name, want := range map[string]string{
		"lzma": "only compression with LZ4, DEFLATE or zstd", "fragments": "fragments", "ztailpacking": "ztailpacking", "legacy": "before Linux 5.4",
	} {
		_, err := open(sample(t, name))
		if errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v (%s)", name, err, errkind.Of(err))
		}
	}
}

// The file systems of testdata are small: programs have several packs of each size, and
// pclusters that cross packs.
func TestProgramsCompressedByThisMachineAreRead(t *testing.T) {
	tool, err := exec.LookPath("mkfs.erofs")
	if err != nil {
		t.Skip("mkfs.erofs is not installed")
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	self = self[:min(len(self), 3<<20)]
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tree"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tree/program"), self, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, options := range []string{"-zlz4", "-zlz4 -C65536", "-zlz4 -C1048576", "-zlz4 -Eforce-inode-extended"} {
		image := filepath.Join(dir, "image")
		args := append(strings.Fields(options), "--quiet", image, filepath.Join(dir, "tree"))
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.erofs %s: %v: %s", options, err, out)
		}
		data, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > len(self)*9/10 {
			t.Fatalf("%s: %d bytes are not compressed", options, len(data))
		}
		checkTree(t, data, map[string][]byte{"program": self})
		if err := os.Remove(image); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACutFileSystemIsCorrupt(t *testing.T) {
	whole := sample(t, "lz4-big")
	fsys, err := open(whole[:len(whole)*2/3])
	if err != nil {
		t.Fatal(err)
	}
	var faults error
	for name := range tree() {
		_, err := fs.ReadFile(fsys, name)
		if err != nil && errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
		faults = errors.Join(faults, err)
	}
	if faults == nil {
		t.Error("every file is read from two thirds of the file system")
	}
}

func TestACompressedFolderIsCorrupt(t *testing.T) {
	data := bytes.Clone(sample(t, "lz4"))
	le := binary.LittleEndian
	sb := data[1024:]
	root := data[int(le.Uint32(sb[40:]))<<sb[12]+int(le.Uint16(sb[14:]))*32:]
	root[0] = root[0]&^0x0e | 3<<1 // the compact layout
	fsys, err := open(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.ReadDir(fsys, "."); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("kind %s: %v", errkind.Of(err), err)
	}
}

func FuzzRead(f *testing.F) {
	var bases [][]byte
	for _, name := range []string{"lz4", "lz4-big", "zstd", "deflate", "two"} {
		bases = append(bases, sample(f, name))
	}
	for base, data := range bases {
		f.Add(uint8(base), []byte{})
		for at := 0; at < len(data); at += 509 {
			f.Add(uint8(base), damage.At(at, 0xff, 0x7f))
		}
	}
	f.Fuzz(func(t *testing.T, base uint8, edits []byte) {
		fsys, err := open(damage.Apply(bases[int(base)%len(bases)], edits))
		if err == nil {
			err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				in, err := fsys.Open(name)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, io.LimitReader(in, 1<<20))
				return errors.Join(err, in.Close())
			})
		}
		if kind := errkind.Of(err); err != nil && kind != errkind.Corrupt && kind != errkind.Unsupported && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("kind %s: %v", kind, err)
		}
	})
}
