// Package mounttest has the suite of mount.Mounter, for the real one and for those in
// memory.
package mounttest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/trident-project/trident/internal/linux/mount"
)

// Rig is what the suite works with: a Mounter, an empty folder, and two file systems that
// are empty and keep their files while they are not mounted.
type Rig struct {
	mount.Mounter
	Dir      string
	One, Two mount.FileSystem
	// None is a file system that does not exist.
	None mount.FileSystem
}

// Suite tests what every [mount.Mounter] does.
func Suite(t *testing.T, r Rig) {
	at := filepath.Join(r.Dir, "at")
	r.must(t, os.Mkdir(at, 0o700))
	t.Cleanup(func() { r.must(t, r.Unmount(r.Dir)) })

	r.must(t, r.Unmount(at)) // nothing is mounted: no error
	if err := r.mount(r.None, at); err == nil {
		t.Fatalf("%s is mounted, and does not exist", r.None.Source)
	}

	// A file on what is mounted is gone when it is unmounted, and there again when it is mounted again.
	r.must(t, r.mount(r.One, at))
	r.write(t, at, "one")
	r.must(t, r.Unmount(at))
	r.has(t, at)
	r.must(t, r.mount(r.One, at))
	r.has(t, at, "one")

	// Unmount unmounts what is mounted below, too, and nothing beside it.
	inner, beside := filepath.Join(at, "inner"), filepath.Join(r.Dir, "at-the-side")
	r.must(t, errors.Join(os.Mkdir(inner, 0o700), os.Mkdir(beside, 0o700)))
	r.must(t, r.mount(r.Two, inner))
	r.write(t, inner, "two")
	r.must(t, r.Unmount(at))
	r.has(t, at)
	r.must(t, r.mount(r.Two, beside))
	r.has(t, beside, "two")
	r.must(t, r.mount(r.One, at))
	r.has(t, at, "inner", "one")
	r.has(t, inner)
	r.must(t, r.Unmount(at))
	r.has(t, beside, "two")
	r.must(t, r.Unmount(beside))
	r.has(t, beside)

	// The folder that was opened counts, wherever it is by now.
	on, err := os.Open(at)
	r.must(t, err)
	moved := filepath.Join(r.Dir, "moved")
	r.must(t, errors.Join(os.Rename(at, moved), os.Mkdir(at, 0o700)))
	r.must(t, errors.Join(r.Mount(r.One, on), on.Close()))
	r.has(t, at)
	r.has(t, moved, "inner", "one")
	r.must(t, r.Unmount(moved))
	r.has(t, moved)
}

// mount leaves nothing open, which would keep what is mounted busy.
func (r Rig) mount(f mount.FileSystem, dir string) error {
	on, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(r.Mount(f, on), on.Close())
}

func (r Rig) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r Rig) write(t *testing.T, dir, name string) {
	t.Helper()
	r.must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
}

// has fails unless these are all files of dir, in the order of the alphabet.
func (r Rig) has(t *testing.T, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	r.must(t, err)
	same := len(list) == len(want)
	for i := range list {
		same = same && list[i].Name() == want[i]
	}
	if !same {
		t.Fatalf("%s has %v; want %v", dir, names(list), want)
	}
}

func names(list []fs.DirEntry) []string {
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}
