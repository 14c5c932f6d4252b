// Package hosttest has what the made-up hosts of tests share: their power switch, the umask under which
// tridentd runs, files whose modes do not depend on it, a reader of archives, and the round
// trip of records.
package hosttest

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Main runs the tests of a package under the umask of tridentd.service (UMask= in
// systemd/tridentd.service): func TestMain(m *testing.M) { hosttest.Main(m) }.
//
// Unless GOGC says otherwise, it collects garbage a quarter as often as usual: the power-cut
// tests make thousands of short-lived hosts, and have some 20 MB alive at a time.
func Main(m *testing.M) {
	syscall.Umask(0o077)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	m.Run()
}

// MkdirAll makes dir and every missing parent of it, each with the mode 0755,
// whatever the umask.
func MkdirAll(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := MkdirAll(filepath.Dir(dir)); err != nil {
		return err
	}
	return errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755))
}

// TempDir returns a folder that exists until the test ends. The folder is in memory if the
// machine has a file system in memory with free space, because tests only simulate power
// cuts and need not wait for a real disk. A file system that is mounted noexec, as in many
// containers, is not used: a store of programs has to run them.
func TempDir(t testing.TB) string {
	const wanted = 4 << 30
	var memory unix.Statfs_t
	if unix.Statfs("/dev/shm", &memory) != nil || memory.Bavail*uint64(memory.Bsize) < wanted || memory.Flags&unix.ST_NOEXEC != 0 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "trident-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Text returns the text of a file, or "" if there is none.
func Text(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return string(data)
}

// Write writes a file that everybody may read, and makes its folders.
func Write(t testing.TB, file, text string) {
	t.Helper()
	if err := MkdirAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// MakeReadable gives the files of a tree the modes that they have under the umask
// 022: all users read what the owner reads, and enter or run what the owner enters or
// runs.
func MakeReadable(t testing.TB, tree string) {
	t.Helper()
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() == fs.ModeSymlink {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode() | 0o044
		if mode&0o100 != 0 {
			mode |= 0o011
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ReadTarZstd returns the files of an archive that is packed with zstd, by name.
func ReadTarZstd(name string) (map[string][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	out := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if out[h.Name], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
}

// RoundTrip returns the record that text means. The test fails if the record is written as
// anything else than text.
func RoundTrip[R any](t testing.TB, text string) R {
	t.Helper()
	var r R
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := errors.Join(json.Unmarshal([]byte(text), &want), json.Unmarshal(again, &got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-read +written):\n%s", diff)
	}
	return r
}
