package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/damage"
)

// volumes are made by the tools that make ESPs.
func volumes(t testing.TB) map[string][]byte {
	t.Helper()
	for _, tool := range []string{"mkfs.vfat", "mcopy", "mmd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s makes the file systems", tool)
		}
	}
	out := map[string][]byte{}
	for name, args := range map[string][]string{
		"12 bits":             {"-F12", "-C", "X", "2048"},
		"16 bits":             {"-F16", "-C", "X", "20480"},
		"32 bits":             {"-F32", "-C", "X", "40960"},
		"sectors of 4096":     {"-F16", "-S4096", "-s1", "-C", "X", "20480"},
		"clusters of 8 pages": {"-F12", "-s64", "-C", "X", "20480"},
	} {
		path := filepath.Join(t.TempDir(), "fs")
		args[len(args)-2] = path
		runTool(t, "mkfs.vfat", append([]string{"-n", "ESP"}, args...)...)
		runTool(t, "mmd", "-i", path, "::EFI", "::EFI/Linux", "::many")
		src := t.TempDir()
		for name, data := range content() {
			file := filepath.Join(src, "f")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			runTool(t, "mcopy", "-i", path, file, "::"+name)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = data
	}
	return out
}

func runTool(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1", "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func content() map[string][]byte {
	big := make([]byte, 300<<10+77)
	_, _ = rand.NewChaCha8([32]byte{}).Read(big)
	out := map[string][]byte{
		"EFI/Linux/A long name of a kernel, with more than 26 letters.efi": big,
		"SHORT.TXT": []byte("short"), "lower.txt": []byte("lower"), "empty": {}, "Größe.conf": []byte("not ASCII"),
	}
	for i := range 40 {
		out[fmt.Sprintf("many/a file with number %d", i)] = []byte{byte(i)}
	}
	return out
}

func TestAFileSystemReadsAsItWasWritten(t *testing.T) {
	t.Parallel()
	for name, data := range volumes(t) {
		v, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var names []string
		for name, want := range content() {
			names = append(names, name)
			got, err := fs.ReadFile(v, strings.ToUpper(name))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
		if err := fstest.TestFS(v, names...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := fs.Stat(v, "EFI/Linux/missing"); !os.IsNotExist(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenRefusesOtherFileSystems(t *testing.T) {
	t.Parallel()
	for name, b := range volumes(t) {
		for what, damage := range map[string]func(b []byte){
			"no signature":     func(b []byte) { b[510] = 0 },
			"no sectors":       func(b []byte) { b[11], b[12] = 0, 0 },
			"no clusters":      func(b []byte) { b[13] = 0 },
			"too long":         func(b []byte) { b[19], b[20], b[35] = 0, 0, 0xff },
			"a table too long": func(b []byte) { b[22], b[23] = 0, 0; b[39] = 0x7f },
		} {
			c := bytes.Clone(b)
			damage(c)
			if _, err := Open(bytes.NewReader(c), int64(len(c))); errkind.Of(err) != errkind.Corrupt {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	if _, err := Open(bytes.NewReader(nil), 0); err == nil {
		t.Error("nothing is a file system")
	}
}

// Any bytes give an answer, and soon.
func FuzzOpen(f *testing.F) {
	var bases [][]byte
	var sizes []int64
	all := volumes(f)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		bases, sizes = append(bases, all[name][:64<<10]), append(sizes, int64(len(all[name])))
	}
	for base := range bases {
		f.Add(uint8(base), sizes[base], []byte{})
		f.Add(uint8(base), sizes[base], damage.At(11, 0, 16))
	}
	f.Fuzz(func(t *testing.T, base uint8, size int64, edits []byte) {
		v, err := Open(bytes.NewReader(damage.Apply(bases[int(base)%len(bases)], edits)), size)
		if err != nil {
			return
		}
		seen := 0
		_ = fs.WalkDir(v, ".", func(name string, d fs.DirEntry, err error) error {
			if seen++; seen > 200 || strings.Count(name, "/") > 8 {
				return fs.SkipAll
			}
			if err == nil && !d.IsDir() {
				if r, err := v.Open(name); err == nil {
					_, _ = io.CopyN(io.Discard, r, 1<<20)
				}
			}
			return nil
		})
	})
}

func TestTheRoomOfAFileSystemIsWhatFitsIntoIt(t *testing.T) {
	t.Parallel()
	for name, data := range volumes(t) {
		free, cluster, err := Room(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		path := filepath.Join(t.TempDir(), "fs")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, make([]byte, free), 0o600); err != nil {
			t.Fatal(err)
		}
		runTool(t, "mcopy", "-i", path, file, "::f") // fills it to the last cluster
		if err := os.WriteFile(file, make([]byte, 1), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("mcopy", "-i", path, file, "::g")
		cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1", "LC_ALL=C.UTF-8")
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%s: %d bytes in clusters of %d are not all of the room: %s", name, free, cluster, out)
		}
	}
}

func TestAFolderIsListedInPartsAndIsNotReadAsAFile(t *testing.T) {
	for name, image := range volumes(t) {
		fsys, err := Open(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			t.Fatal(err)
		}
		root, err := fsys.Open(".")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := root.Read(make([]byte, 1)); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: the root is read as a file: %v", name, err)
		}
		all, err := fs.ReadDir(fsys, ".")
		if err != nil || len(all) == 0 {
			t.Fatalf("%s: %v, %v", name, all, err)
		}
		var got []string
		for {
			part, err := root.(fs.ReadDirFile).ReadDir(1)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || len(part) != 1 {
				t.Fatalf("%s: %v, %v", name, part, err)
			}
			got = append(got, part[0].Name())
		}
		if len(got) != len(all) {
			t.Errorf("%s: %d entries one by one, %d together", name, len(got), len(all))
		}
		var file string
		err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && file == "" {
				file = name
			}
			return err
		})
		if err != nil || file == "" {
			t.Fatalf("%s: %q, %v", name, file, err)
		}
		for _, below := range []string{file + "/x", strings.TrimSuffix(strings.Repeat("x/", 1<<10), "/"), "none"} {
			if _, err := fsys.Open(below); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %.40s: %v", name, below, err)
			}
		}
		if _, err := fsys.Open("../x"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: a path that leads out: %v", name, err)
		}
		info, err := fs.Stat(fsys, file)
		if err != nil || info.Name() != path.Base(file) || info.Sys() != nil || !info.ModTime().IsZero() || info.Mode() != 0o444 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestAVolumeThatCannotBeReadIsAnError(t *testing.T) {
	for name, image := range volumes(t) {
		size := int64(len(image))
		if _, err := Open(brokenReader{bytes.NewReader(image), 0}, size); err == nil {
			t.Errorf("%s: the first sector", name)
		}
		if _, _, err := Room(brokenReader{bytes.NewReader(image), 512}, size); err == nil {
			t.Errorf("%s: the table", name)
		}
		if _, _, err := Room(bytes.NewReader(make([]byte, 512)), 512); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: zeros: %v", name, err)
		}
		fsys, err := Open(brokenReader{bytes.NewReader(image), 512}, size)
		if err != nil {
			t.Fatal(err)
		}
		if list, err := fs.ReadDir(fsys, "."); err == nil {
			t.Errorf("%s: the root is %v", name, list)
		}
		if f, err := fsys.Open("a/b"); err == nil {
			t.Errorf("%s: a file is %v", name, f)
		}
	}
}

// brokenReader fails at and behind the byte most.
type brokenReader struct {
	*bytes.Reader
	most int64
}

func (r brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.most {
		return 0, errors.New("the medium is broken")
	}
	return r.Reader.ReadAt(p, off)
}
