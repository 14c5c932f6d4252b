// Package hosttest has what the made-up hosts of tests share: the umask under which
// tridentd runs, and files whose modes do not depend on it.
package hosttest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Main runs the tests of a package under the umask of tridentd.service (UMask= in
// systemd/tridentd.service): func TestMain(m *testing.M) { hosttest.Main(m) }.
func Main(m *testing.M) {
	syscall.Umask(0o077)
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
