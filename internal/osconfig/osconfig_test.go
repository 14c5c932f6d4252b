package osconfig

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hosttest"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

// tree makes files below a new folder: content that starts with "->" makes a link,
// a name that ends in "/" a folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, name)
		target, isLink := strings.CutPrefix(content, "->")
		err := makeFolders(root, path.Dir(name))
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = makeFolders(root, name)
		case isLink:
			err = os.Symlink(target, file)
		default:
			err = errors.Join(os.WriteFile(file, []byte(content), 0o640), os.Chmod(file, 0o640))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// makeFolders makes folders below root that everybody can enter.
func makeFolders(root, name string) error {
	for at := path.Clean(name); at != "."; at = path.Dir(at) {
		dir := filepath.Join(root, at)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
			return err
		}
	}
	return nil
}

// look is what is below a folder.
func look(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == root {
			return err
		}
		name, _ := filepath.Rel(root, file)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			out[name] = "folder"
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(file)
			out[name] = "->" + target
			return err
		default:
			data, err := os.ReadFile(file)
			out[name] = info.Mode().String() + " " + string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAFileIsWrittenWhereTheOSWouldFindIt(t *testing.T) {
	outside := t.TempDir()
	root := tree(t, map[string]string{
		"etc/f": "old", "etc/link": "->/etc/f", "abs": "->/etc", "out": "->" + outside, "up": "->../../..", "data" + outside + "/": "",
	})
	for name, where := range map[string]string{
		"/etc/f": "etc/f", "etc/g": "etc/g", "/etc/link": "etc/link", "/abs/h": "etc/h", "/up/i": "i", "/etc/../j": "j", "/new/a/k": "new/a/k",
	} {
		if err := errors.Join(Check(root, name), Write(root, name, 0o664, writerOf(name))); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, want := look(t, root)[where], "-rw-rw-r-- "+name; got != want {
			t.Errorf("%s: at %s is %q", name, where, got)
		}
	}
	if err := Write(root, "/out/f", 0o644, writerOf("x")); err == nil {
		t.Error("a link to a folder that is not in the tree was followed")
	}
	if names, _ := os.ReadDir(outside); len(names) > 0 {
		t.Errorf("written outside of the tree: %v", names)
	}
}

func TestAPathThatIsNotAFileIsNotChanged(t *testing.T) {
	root := tree(t, map[string]string{"etc/folder/": "", "etc/f": "x", "etc/dangling": "->nowhere"})
	for _, name := range []string{"/etc/folder", "/", "/etc/f/g"} {
		for what, err := range map[string]error{
			"check": Check(root, name), "write": Write(root, name, 0o644, writerOf("x")), "remove": Remove(root, name),
		} {
			if err == nil && !(what == "remove" && name == "/etc/f/g") {
				t.Errorf("%s %s: no error", what, name)
			}
		}
		if _, err := Keep(root, name, filepath.Join(t.TempDir(), "copy")); err == nil {
			t.Errorf("keep %s: no error", name)
		}
	}
	if err := Write(root, "/etc/dangling/f", 0o644, writerOf("x")); errkind.Of(err) != errkind.Precondition {
		t.Errorf("below a link to nowhere: %v", err)
	}
	if err := errors.Join(Remove(root, "/etc/nothing"), Remove(root, "/no/folder/f")); err != nil {
		t.Errorf("remove what is not there: %v", err)
	}
}

func TestKeptFilesAreRestored(t *testing.T) {
	start := map[string]string{"etc/f": "old", "etc/link": "->f", "etc/some/f": "some"}
	root := tree(t, start)
	if err := errors.Join(os.Chmod(filepath.Join(root, "etc/f"), fs.ModeSetuid|0o711)); err != nil {
		t.Fatal(err)
	}
	before := look(t, root)
	names := []string{"/etc/f", "/etc/link", "/etc/nothing", "/etc/a/b/c", "/etc/a/b/d", "/etc/some/f"}
	copies, kept := t.TempDir(), []Kept{}
	copyOf := func(name string) string { return filepath.Join(copies, strings.ReplaceAll(name, "/", "_")) }
	for _, name := range names {
		k, err := Keep(root, name, copyOf(name))
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, k)
	}
	for _, name := range names {
		if err := Write(root, name, 0o600, writerOf("new")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(root, "etc/some")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, k := range kept {
			if err := k.Restore(root, copyOf(k.Name)); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff(before, look(t, root)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAFolderThatSomebodyUsesStays(t *testing.T) {
	root := tree(t, map[string]string{"etc/": ""})
	k, err := Keep(root, "/etc/a/b/c", filepath.Join(t.TempDir(), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Write(root, "/etc/a/b/c", 0o644, writerOf("x")), Write(root, "/etc/a/other", 0o644, writerOf("x")), k.Restore(root, "")); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"etc": "folder", "etc/a": "folder", "etc/a/other": "-rw-r--r-- x"}
	if diff := cmp.Diff(want, look(t, root)); diff != "" {
		t.Error(diff)
	}
}

func TestTheNetworkIsWrittenAndRemoved(t *testing.T) {
	n := hostconfig.Netplan{"version": 2, "ethernets": map[string]any{"eth0": map[string]any{"dhcp4": true}}}
	const yaml = "network:\n  ethernets:\n    eth0:\n      dhcp4: true\n  version: 2\n"
	for _, cloud := range []bool{false, true} {
		files := map[string]string{"etc/netplan/50-vendor.yaml": "vendor"}
		if cloud {
			files["etc/cloud/cloud.cfg.d/"] = ""
		}
		root := tree(t, files)
		before := look(t, root)
		if err := WriteNetwork(root, n); err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(before)
		want["etc/netplan/99-trident.yaml"] = "-rw------- " + yaml
		if cloud {
			want[CloudInit[1:]] = "-rw-r--r-- " + cloudInitText
		}
		if diff := cmp.Diff(want, look(t, root)); diff != "" {
			t.Error(diff)
		}
		if err := WriteNetwork(root, nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, look(t, root)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestALargeFileIsRefused(t *testing.T) {
	root := tree(t, map[string]string{"etc/f": ""})
	if err := os.Truncate(filepath.Join(root, "etc/f"), MaxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Keep(root, "/etc/f", filepath.Join(t.TempDir(), "copy")); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("got %v", err)
	}
}

// Whatever has come into the place of a folder on the way, where nothing was before there
// is nothing to take back.
func TestWhereAFolderHasBecomeAFileNothingIsRestoredOrRemoved(t *testing.T) {
	root := tree(t, map[string]string{"etc/folder/": ""})
	copied := filepath.Join(t.TempDir(), "copy")
	var kept []Kept
	for _, name := range []string{"/etc/folder/f", "/etc/missing/deep/f"} {
		k, err := Keep(root, name, copied)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, k)
	}
	if err := os.Remove(filepath.Join(root, "etc/folder")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etc/folder", "etc/missing"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte("other"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := look(t, root)
	for _, k := range kept {
		if err := k.Restore(root, copied); err != nil {
			t.Errorf("restore %s: %v", k.Name, err)
		}
		if err := Remove(root, k.Name); err != nil {
			t.Errorf("remove %s: %v", k.Name, err)
		}
	}
	if diff := cmp.Diff(before, look(t, root)); diff != "" {
		t.Error(diff)
	}
}

// On files of a container something may be mounted; an administrator may make one
// immutable.
func TestAFileThatCannotBeReplacedIsFoundBeforeAndIsNoFaultOfAnUndo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	root := tree(t, map[string]string{"etc/motd": "old", "etc/other": "other"})
	file, copied := filepath.Join(root, "etc/motd"), filepath.Join(t.TempDir(), "copy")
	k, err := Keep(root, "/etc/motd", copied)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(root, "/etc/motd"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(file, file, "", unix.MS_BIND, ""); err != nil {
		t.Skip("cannot mount here: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(file, unix.MNT_DETACH) })
	if err := Check(root, "/etc/motd"); errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "mounted on the file") || errkind.Hint(err) == "" {
		t.Errorf("check: %v", err)
	}
	if err := Write(root, "/etc/motd", 0o644, writerOf("new")); err == nil {
		t.Error("what is mounted was replaced")
	}
	if err := k.Restore(root, copied); err != nil {
		t.Errorf("restore what has not changed: %v", err)
	}
	if err := os.WriteFile(file, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := k.Restore(root, copied); err == nil {
		t.Error("a changed file that cannot be replaced was called restored")
	}
}
