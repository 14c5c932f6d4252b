package unmerged

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestTheMountThatIsSeenIsFoundInAnyOrder(t *testing.T) {
	const info = `30 1 8:1 / / rw - ext4 /dev/sda1 rw
43 41 0:50 / /usr ro - overlay sysext ro,lowerdir=/run/x:/usr
41 30 254:0 / /usr ro - erofs /dev/dm-0 ro
44 30 0:51 / /usr\040two ro - tmpfs tmpfs ro
broken
`
	if m, ok := topMount(info, "/usr"); !ok || m.id != "43" || m.source != "sysext" || m.fstype != "overlay" {
		t.Errorf("/usr: %+v, %v", m, ok)
	}
	if m, ok := topMount(info, "/usr two"); !ok || m.fstype != "tmpfs" {
		t.Errorf("/usr two: %+v, %v", m, ok)
	}
	if m, ok := topMount(info, "/etc"); ok {
		t.Errorf("/etc: %+v", m)
	}
}

func TestATreeWithoutExtensionsIsReadAsItIs(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/.systemd-sysext"), 0o755); err != nil { // no mount
		t.Fatal(err)
	}
	tree, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if tree.Path() != root {
		t.Errorf("%s, want %s", tree.Path(), root)
	}
	if err := tree.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(root, "none")); err == nil {
		t.Error("a tree that does not exist was opened")
	}
}

func TestWithoutATableOfMountsOnlyAMarkedTreeIsAnError(t *testing.T) {
	root, none := t.TempDir(), filepath.Join(t.TempDir(), "mountinfo")
	if covered, err := anyCovered(none, root); covered || err != nil { // the tree of an image, in a scriptlet
		t.Errorf("%v, %v", covered, err)
	}
	if err := os.MkdirAll(filepath.Join(root, "etc/.systemd-confext"), 0o755); err != nil {
		t.Fatal(err)
	}
	if covered, err := anyCovered(none, root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, %v", covered, err)
	}
	if err := unmountExtensions(filepath.Join(root, "none"), "usr"); err != nil {
		t.Errorf("a tree without mounts: %v", err)
	}
}
