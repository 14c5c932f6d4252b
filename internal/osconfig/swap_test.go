package osconfig

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

// A user of the host in the tests.
const ada = 1000

const keysOfRoot = "the keys of root"

// host is a tree with the keys of root, and a folder of ada's that has keys of hers.
func host(t *testing.T) string {
	t.Helper()
	needsRoot(t)
	root := tree(t, map[string]string{"root/.ssh/authorized_keys": keysOfRoot, "home/ada/keys/authorized_keys": "the keys of ada", "etc/cron.d/": ""})
	give(t, root, "home/ada", "home/ada/keys", "home/ada/keys/authorized_keys")
	return root
}

func give(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Lchown(filepath.Join(root, name), ada, ada); err != nil {
			t.Fatal(err)
		}
	}
}

// safe fails if what is root's has changed.
func safe(t *testing.T, root string) {
	t.Helper()
	file := filepath.Join(root, "root/.ssh/authorized_keys")
	text, err := os.ReadFile(file)
	info, serr := os.Lstat(file)
	if err := errors.Join(err, serr); err != nil {
		t.Fatal(err)
	}
	if uid, _ := ownerOf(info); string(text) != keysOfRoot || uid != 0 {
		t.Fatalf("the keys of root are %q, of user ID %d", text, uid)
	}
	for _, dir := range []string{"root/.ssh", "etc/cron.d"} {
		names, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil || len(names) > 1 || dir == "etc/cron.d" && len(names) > 0 {
			t.Fatalf("in %s are %v, %v", dir, names, err)
		}
	}
}

const adasKeys = "/home/ada/keys/authorized_keys"

// What ada puts in the way of a file of hers, after it was kept and written.
var swaps = map[string]func(t *testing.T, root string){
	"a link to a folder of root": func(t *testing.T, root string) { link(t, root, "/root/.ssh") },
	"a relative link to it":      func(t *testing.T, root string) { link(t, root, "../../root/.ssh") },
	"a link to the same folder":  func(t *testing.T, root string) { link(t, root, "keys.old") },
	"another folder": func(t *testing.T, root string) {
		if err := os.Mkdir(filepath.Join(root, "home/ada/keys"), 0o755); err != nil {
			t.Fatal(err)
		}
		give(t, root, "home/ada/keys")
	},
	"a folder of root": func(t *testing.T, root string) {
		if err := os.Mkdir(filepath.Join(root, "home/ada/keys"), 0o755); err != nil {
			t.Fatal(err)
		}
	},
	"a file": func(t *testing.T, root string) {
		if err := os.WriteFile(filepath.Join(root, "home/ada/keys"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		give(t, root, "home/ada/keys")
	},
	"nothing": func(*testing.T, string) {},
}

func link(t *testing.T, root, target string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(root, "home/ada/keys")); err != nil {
		t.Fatal(err)
	}
	give(t, root, "home/ada/keys")
}

func TestAFileOfAUserIsRestoredInTheSameFolderOnly(t *testing.T) {
	for what, swap := range swaps {
		for _, released := range []bool{false, true} { // before folders were recorded
			root := host(t)
			copied := filepath.Join(t.TempDir(), "copy")
			k, err := Keep(root, adasKeys, copied)
			if err != nil {
				t.Fatal(err)
			}
			if err := Write(root, adasKeys, 0o600, writerOf("the keys of the fleet")); err != nil {
				t.Fatal(err)
			}
			home := filepath.Join(root, "home/ada")
			if err := os.Rename(filepath.Join(home, "keys"), filepath.Join(home, "keys.old")); err != nil {
				t.Fatal(err)
			}
			swap(t, root)
			if released {
				k.Folder = nil
			}
			err = k.Restore(root, copied)
			want := "the keys of the fleet"
			if what == "a link to the same folder" {
				want = "the keys of ada"
			}
			if _, moved := errors.AsType[*MovedError](err); !released && moved != (want != "the keys of ada") {
				t.Errorf("%s: %v", what, err)
			}
			safe(t, root)
			if got, err := os.ReadFile(filepath.Join(home, "keys.old/authorized_keys")); string(got) != want || err != nil {
				t.Errorf("%s: in the folder that was moved is %q, %v", what, got, err)
			}
		}
	}
}

func TestAFileOfAUserIsRestoredWithItsOwner(t *testing.T) {
	root := host(t)
	if err := os.Symlink("/etc/cron.d", filepath.Join(root, "home/ada/keys/link")); err != nil {
		t.Fatal(err)
	}
	give(t, root, "home/ada/keys/link")
	before := render(t, root)
	dir := t.TempDir()
	var all []Kept
	for i, name := range []string{adasKeys, "/home/ada/keys/link", "/home/ada/new/sub/f"} {
		k, err := Keep(root, name, filepath.Join(dir, "kept"))
		if i > 0 {
			k, err = Keep(root, name, filepath.Join(dir, "none"))
		}
		if err = errors.Join(err, Check(root, name), Write(root, name, 0o600, writerOf("new")), Write(root, name, 0o600, writerOf("newer"))); err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	for range 2 {
		for _, k := range all {
			if err := k.Restore(root, filepath.Join(dir, "kept")); err != nil {
				t.Error(err)
			}
		}
		if got := render(t, root); got != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, got)
		}
	}
}

// A link of ada's in the place of a folder of hers leads nothing to where it leads.
func TestALinkOfAUserLeadsNoFileElsewhere(t *testing.T) {
	for _, target := range []string{"/root/.ssh", "../../root/.ssh", "/etc/cron.d"} {
		root := host(t)
		if err := os.RemoveAll(filepath.Join(root, "home/ada/keys")); err != nil {
			t.Fatal(err)
		}
		link(t, root, target)
		for what, act := range map[string]func() error{
			"check":  func() error { return Check(root, adasKeys) },
			"write":  func() error { return Write(root, adasKeys, 0o600, writerOf("x")) },
			"remove": func() error { return Remove(root, adasKeys) },
			"link":   func() error { return Link(root, adasKeys, "x") },
			"keep": func() error {
				_, err := Keep(root, adasKeys, filepath.Join(t.TempDir(), "copy"))
				return err
			},
			"home": func() error {
				p := account{name: "ada", uid: ada, gid: ada, home: "/home/ada/keys/home"}
				s := setup{root: root, touch: func(_ string, change func() error) error { return change() }}
				return s.makeHome(p, defaults{skeleton: "/none"})
			},
		} {
			err := act()
			if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "user ID 1000") {
				t.Errorf("%s through a link to %s: %v", what, target, err)
			}
		}
		safe(t, root)
	}
}

// ada swaps her folder for a link to that of root, and back, all the time.
func TestASwapInALoopLeadsNothingElsewhere(t *testing.T) {
	root := host(t)
	home := filepath.Join(root, "home/ada")
	give(t, root, "home/ada")
	if err := os.Symlink("/root/.ssh", filepath.Join(home, "evil")); err != nil {
		t.Fatal(err)
	}
	give(t, root, "home/ada/evil")
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapped := 0
	swapper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(home, "keys"), unix.AT_FDCWD, filepath.Join(home, "evil"), unix.RENAME_EXCHANGE)
			if err != nil {
				t.Error(err)
				return
			}
			swapped++
		}
	})
	copied := filepath.Join(t.TempDir(), "copy")
	wrote, restored := 0, 0
	const rounds = 3000
	for range rounds {
		k, err := Keep(root, adasKeys, copied)
		if err != nil {
			k = Kept{Name: adasKeys, Was: "nothing"}
		}
		if Write(root, adasKeys, 0o600, writerOf("the keys of the fleet")) == nil {
			wrote++
		}
		err = k.Restore(root, copied)
		if err == nil {
			restored++
		} else if _, moved := errors.AsType[*MovedError](err); !moved {
			t.Fatal(err) // an Undo would be stuck
		}
		safe(t, root)
		if t.Failed() {
			break
		}
	}
	close(stop)
	swapper.Wait()
	if wrote == 0 || wrote == rounds || restored == 0 || restored == rounds || swapped < rounds/10 {
		t.Errorf("of %d rounds %d wrote and %d restored, with %d swaps: it proves nothing", rounds, wrote, restored, swapped)
	}
}

func TestFoldersAreOpenWhateverTheUmask(t *testing.T) {
	root := tree(t, map[string]string{"etc/": ""})
	if err := errors.Join(
		Write(root, "/etc/app/conf.d/a.conf", 0o644, writerOf("x")), Link(root, "/etc/systemd/system/x.wants/y", "../y"),
		WriteNetwork(root, hostconfig.Netplan{"version": 2}),
	); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"etc/app", "etc/app/conf.d", "etc/systemd", "etc/systemd/system", "etc/systemd/system/x.wants", "etc/netplan"} {
		if info, err := os.Stat(filepath.Join(root, dir)); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", dir, info, err)
		}
	}
}

// Links of an image that would lead to the host that services it, or to another host's
// files, if they were followed from there.
func TestASetupStaysInItsTree(t *testing.T) {
	needsRoot(t)
	for _, name := range []string{
		"root/.ssh", "home", "etc/ssh/sshd_config.d", "etc/netplan", "etc/modprobe.d", "etc/modules-load.d", "etc/systemd", "etc/hostname",
		"etc/skel", "etc/passwd", "etc/shadow", "root", "srv",
	} {
		outside := tree(t, map[string]string{"d/.ssh/authorized_keys": keysOfRoot, "d/f": "x"})
		file := strings.HasPrefix(name, "etc/passwd") || strings.HasPrefix(name, "etc/shadow") || name == "etc/hostname"
		target := filepath.Join(outside, "d")
		if file {
			target = filepath.Join(outside, "d/f")
		}
		for _, target := range []string{target, "../../../../../../../../../../../.." + target} {
			files := maps.Clone(image)
			maps.DeleteFunc(files, func(n, _ string) bool { return n == name || strings.HasPrefix(n, name+"/") })
			files[name] = "->" + target
			root := tree(t, files)
			before := render(t, outside)
			for _, there := range []bool{false, true} { // in the tree, at the place that the link says
				if there && !file {
					if err := makeFolders(root, target[strings.Index(target, outside)+1:]); err != nil {
						t.Fatal(err)
					}
				}
				err := Setup(t.Context(), root, all(), units(root), nil)
				if err != nil && errkind.Of(err) != errkind.Precondition && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("/%s is a link to %s: %v", name, target, err)
				}
				if got := render(t, outside); got != before {
					t.Fatalf("/%s is a link to %s: outside was\n%s\nand is\n%s", name, target, before, got)
				}
			}
		}
	}
}
