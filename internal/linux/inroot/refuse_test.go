package inroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// opened returns a folder of a tree, until the test ends.
func opened(t *testing.T, r FS, name string) *Dir {
	t.Helper()
	d, err := r.Dir(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestAChangeThatTheKernelRefusesNamesTheEntryAndLeavesNothing(t *testing.T) {
	r := tree(t, map[string]string{"d/full/f": "old", "d/file": "old"})
	d := opened(t, r, "d")
	made, err := d.Mkdir("full", 0o755)
	if err == nil {
		t.Error("a folder that is not empty was replaced", made.Close())
	}
	_, sub := d.Sub("file")
	_, open := d.Open("none")
	_, lstat := d.Lstat("none")
	_, link := d.Readlink("file")
	for what, c := range map[string]struct {
		err  error
		want error
	}{
		"mkdir over a full folder":     {err, unix.ENOTEMPTY},
		"replace of a folder":          {d.Replace("full", 0o644, content("new")), unix.EISDIR},
		"symlink over a folder":        {d.Symlink("x", "full", -1, -1), unix.EISDIR},
		"rename of nothing":            {d.Rename("none", "other"), fs.ErrNotExist},
		"remove of a folder":           {d.Remove("full"), unix.EISDIR},
		"remove empty of a full one":   {d.RemoveEmpty("full"), unix.ENOTEMPTY},
		"hard link to nothing":         {d.Link(d, "none", "other"), fs.ErrNotExist},
		"hard link over a file":        {d.Link(d, "file", "full"), fs.ErrExist},
		"open of nothing":              {open, fs.ErrNotExist},
		"lstat of nothing":             {lstat, fs.ErrNotExist},
		"readlink of a file":           {link, unix.EINVAL},
		"check of a name too long":     {d.CheckReplaceable(strings.Repeat("x", 300)), unix.ENAMETOOLONG},
		"remove all, a name too long":  {d.RemoveAll(strings.Repeat("x", 300)), unix.ENAMETOOLONG},
		"replace with a name too long": {d.Replace(strings.Repeat("x", 300), 0o644, content("")), unix.ENAMETOOLONG},
		"symlink with a name too long": {d.Symlink("x", strings.Repeat("x", 300), -1, -1), unix.ENAMETOOLONG},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	if errkind.Of(sub) != errkind.Precondition {
		t.Errorf("a file as a folder: %v", sub)
	}
	if names, err := d.List(); err != nil || strings.Join(names, " ") != "file full" {
		t.Errorf("afterwards: %v, %v", names, err)
	}
	if data, err := r.ReadFile("d/file", 10); string(data) != "old" || err != nil {
		t.Errorf("the file has %q, %v", data, err)
	}
}

func TestAFailedFillLeavesTheOldFile(t *testing.T) {
	r := tree(t, map[string]string{"d/f": "old"})
	d := opened(t, r, "d")
	broken := errors.New("broken")
	if err := d.Replace("f", 0o644, func(f *os.File) error { return errors.Join(content("half")(f), broken) }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	names, err := d.List()
	data, rerr := r.ReadFile("d/f", 10)
	if err := errors.Join(err, rerr); err != nil || len(names) != 1 || string(data) != "old" {
		t.Errorf("%v, %q, %v", names, data, err)
	}
}

func TestAHardLinkIsTheSameFileAndAFolderHasAnIdentity(t *testing.T) {
	r := tree(t, map[string]string{"a/f": "x", "b/g": "y"})
	a, b := opened(t, r, "a"), opened(t, r, "b")
	if err := b.Link(a, "f", "linked"); err != nil {
		t.Fatal(err)
	}
	one, err := r.Lstat("a/f")
	other, oerr := r.Lstat("b/linked")
	if err := errors.Join(err, oerr); err != nil || !os.SameFile(one, other) {
		t.Errorf("%v and %v, %v", one, other, err)
	}
	if _, err := r.Lstat("b/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	info, err := os.Stat(filepath.Join(string(r), "a"))
	here, herr := a.File().Stat()
	if err := errors.Join(err, herr); err != nil || !os.SameFile(info, here) {
		t.Errorf("the open folder is another one: %v", err)
	}
	_, inode := a.ID()
	if _, again := opened(t, r, "a").ID(); again != inode {
		t.Errorf("inodes %d and %d", inode, again)
	}
	if _, other := b.ID(); other == inode {
		t.Error("two folders have one identity")
	}
}

func TestOnlyWhatCanBeReplacedPassesTheCheck(t *testing.T) {
	r := tree(t, map[string]string{"d/f": "x"})
	d := opened(t, r, "d")
	if err := errors.Join(d.CheckReplaceable("f"), d.CheckReplaceable("none"), d.CheckWritable()); err != nil {
		t.Error(err)
	}
}

func TestAFolderIsNotReadAsAFileAndAFileNotAsAFolder(t *testing.T) {
	r := tree(t, map[string]string{"d/f": "x"})
	if _, err := r.ReadFile("d", 10); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("%v", err)
	}
	if _, err := r.List("d/f"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("%v", err)
	}
	if _, err := r.DropIns(".conf", "d/f"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("%v", err)
	}
	if _, err := r.IsMask("d/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := FS(filepath.Join(string(r), "none")).Dir("d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
