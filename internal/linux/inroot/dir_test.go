package inroot

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

func content(text string) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.WriteString(text)
		return err
	}
}

// put writes a file below a tree as a caller does.
func put(r FS, name, text string) error {
	d, missing, base, err := r.Parent(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if len(missing) > 0 {
		return errors.New("missing: " + strings.Join(missing, " "))
	}
	return d.Replace(base, 0o644, content(text))
}

func TestAWalkStaysInItsTree(t *testing.T) {
	outside := t.TempDir()
	r := tree(t, map[string]string{
		"etc/f": "", "abs": "->/etc", "rel": "->etc/../etc/.", "up": "->../../../../etc", "out": "->" + outside,
		"loop": "->loop", "chain": "->abs", "file": "", "far": "->missing/deep",
	})
	for name, where := range map[string]string{
		"/etc/a": "etc/a", "/abs/b": "etc/b", "/rel/c": "etc/c", "/up/d": "etc/d", "/chain/e": "etc/e", "/../../etc/g": "etc/g", "/./h": "h",
	} {
		if err := put(r, name, name); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := os.ReadFile(filepath.Join(string(r), where)); string(got) != name || err != nil {
			t.Errorf("%s: at %s is %q, %v", name, where, got, err)
		}
	}
	for name, want := range map[string]string{"/out/x": "/out is a link to nowhere", "/far/x": "/far is a link to nowhere", "/loop/x": "too many levels", "/file/x": "/file is not a folder"} {
		if err := put(r, name, "x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if names, err := os.ReadDir(outside); len(names) > 0 || err != nil {
		t.Errorf("written outside of the tree: %v, %v", names, err)
	}
	if _, _, _, err := r.Parent("/.."); errkind.Of(err) != errkind.Invalid {
		t.Errorf("the root folder: %v", err)
	}
	if _, err := r.Dir("none/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestFoldersAreMadeInTheTreeWithTheirMode(t *testing.T) {
	outside := t.TempDir()
	r := tree(t, map[string]string{"etc/f": "", "out": "->" + filepath.Join(outside, "sub"), "rel": "->../../x/y"})
	for name, where := range map[string]string{"/etc/a/b": "etc/a/b", "/out/c": outside + "/sub/c", "/rel": "x/y"} {
		d, err := r.MakeDir(name, 0o751)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := filepath.Join(string(r), where)
		if got, err := d.OnHost(); got != want || err != nil {
			t.Errorf("%s is %s, not %s: %v", name, got, want, err)
		}
		if info, err := os.Stat(want); err != nil || info.Mode().Perm() != 0o751 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if names, err := os.ReadDir(outside); len(names) > 0 || err != nil {
		t.Errorf("made outside of the tree: %v, %v", names, err)
	}
}

func TestATargetIsTheFileAtTheEndOfLinks(t *testing.T) {
	r := tree(t, map[string]string{"usr/lib/f": "text", "etc/f": "->../usr/lib/f", "etc/g": "->/etc/f", "etc/none": "->nowhere", "etc/dir": "->/usr"})
	for _, name := range []string{"/etc/g", "/etc/f", "/usr/lib/f"} {
		d, base, err := r.Target(name)
		if err != nil || d.Path() != "/usr/lib" || base != "f" {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f, err := d.Open(base)
		if err = errors.Join(err, f.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"/etc/x", "/x/y"} {
		if _, _, err := r.Target(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := r.Target("/etc/none"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to nowhere: %v", err)
	}
	if _, _, err := r.Target("/etc/dir"); errkind.Of(err) != errkind.Precondition {
		t.Errorf("a folder: %v", err)
	}
}

// What is not a regular file is not even opened: a FIFO would block, and a device act.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	r := tree(t, map[string]string{"d/file": "", "d/link": "->file"})
	if err := unix.Mkfifo(filepath.Join(string(r), "d/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := r.Dir("d")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for name, ok := range map[string]bool{"file": true, "fifo": false, "link": false} {
		f, err := d.Open(name)
		if (err == nil) != ok || !ok && errkind.Of(err) != errkind.Precondition {
			t.Errorf("%s: %v", name, err)
		}
		if ok {
			_ = f.Close()
		}
	}
}

func TestReplacingAFileIsAtomic(t *testing.T) {
	r := tree(t, map[string]string{"d/f": "old", "d/.f.12": "left", "d/.f.x": "stays", "d/.f.34/in/x": "left", "d/sub/x": ""})
	d, err := r.Dir("d")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	broken := errors.New("broken")
	if err := d.Replace("f", 0o600, func(f *os.File) error { return errors.Join(content("half")(f), broken) }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(d.Sweep("f"), d.Replace("f", fs.ModeSetuid|0o711, content("new")), d.Symlink("f", "l", -1, -1), d.Symlink("g", "l", -1, -1)); err != nil {
		t.Error(err)
	}
	if err := d.Replace("sub", 0o600, content("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if err := d.RemoveEmpty("sub"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("remove a folder that is not empty: %v", err)
	}
	if err := errors.Join(d.RemoveAll("sub"), d.RemoveAll("sub"), d.Remove("none"), d.RemoveEmpty("none")); err != nil {
		t.Error(err)
	}
	names, err := d.List()
	if diff := cmp.Diff([]string{".f.x", "f", "l"}, names); diff != "" || err != nil {
		t.Error(diff, err)
	}
	info, err := d.Lstat("f")
	text, rerr := os.ReadFile(filepath.Join(string(r), "d/f"))
	if err := errors.Join(err, rerr); err != nil || info.Mode() != fs.ModeSetuid|0o711 || string(text) != "new" {
		t.Errorf("%v, %q, %v", info, text, err)
	}
	if target, err := d.Readlink("l"); target != "g" || err != nil {
		t.Errorf("%q, %v", target, err)
	}
	if _, err := d.Sub("l"); errkind.Of(err) != errkind.Precondition {
		t.Errorf("a link as a folder: %v", err)
	}
}

func TestAFolderThatIsMovedIsStillTheOneThatIsOpen(t *testing.T) {
	r := tree(t, map[string]string{"a/b/f": "", "etc/f": "etc"})
	d, err := r.Dir("a/b")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	root := string(r)
	if err := errors.Join(os.Rename(filepath.Join(root, "a"), filepath.Join(root, "moved")), os.Symlink("etc", filepath.Join(root, "a"))); err != nil {
		t.Fatal(err)
	}
	if err := d.Replace("f", 0o600, content("new")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "moved/b/f")); string(got) != "new" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// defaultACL is the ACL, in the form of the kernel (linux/posix_acl_xattr.h), that lets
// user 4242 do everything.
func defaultACL() []byte {
	const anyID = 0xffffffff
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 7, anyID}, {0x02, 7, 4242}, {0x04, 5, anyID}, {0x10, 7, anyID}, {0x20, 5, anyID}} {
		acl = binary.LittleEndian.AppendUint16(acl, e.tag)
		acl = binary.LittleEndian.AppendUint16(acl, e.perm)
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	return acl
}

func TestNothingInheritsTheDefaultACLOfAUsersFolder(t *testing.T) {
	r := tree(t, map[string]string{"home/u/old": "x"})
	home := filepath.Join(string(r), "home/u")
	if err := unix.Setxattr(home, "system.posix_acl_default", defaultACL(), 0); err != nil {
		t.Skipf("the file system of %s has no ACLs: %v", home, err)
	}
	if err := os.WriteFile(filepath.Join(home, "control"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Getxattr(filepath.Join(home, "control"), "system.posix_acl_access", nil); err != nil || n == 0 {
		t.Fatalf("the default ACL is not inherited here: %v", err)
	}
	d, _, _, err := r.Parent("/home/u/x")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	made, err := d.Mkdir(".ssh", 0o755)
	if err == nil {
		err = errors.Join(d.Replace("file", 0o664, content("x")), d.Replace("old", 0o640, content("y")), made.Replace("authorized_keys", 0o644, content("z")), made.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{".ssh": 0o755, "file": 0o664, "old": 0o640, ".ssh/authorized_keys": 0o644} {
		path := filepath.Join(home, name)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		for _, attr := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
			if n, err := unix.Getxattr(path, attr, nil); !errors.Is(err, unix.ENODATA) {
				t.Errorf("%s has %s of %d bytes, %v", name, attr, n, err)
			}
		}
	}
}
