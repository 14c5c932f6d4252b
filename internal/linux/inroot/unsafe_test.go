package inroot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

// Users of the host in the tests.
const ada, bob = 1000, 1001

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can give files to users")
	}
}

// own gives an entry of a tree to a user, itself and not what it links to.
func own(t *testing.T, r FS, uid int, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Lchown(filepath.Join(string(r), name), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
}

func chmod(t *testing.T, r FS, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(filepath.Join(string(r), name), mode); err != nil {
		t.Fatal(err)
	}
}

func TestAnUnsafeStepIsRefused(t *testing.T) {
	needsRoot(t)
	r := tree(t, map[string]string{
		"root/.ssh/f": "", "etc/cron.d/f": "",
		// ada's
		"home/ada/own/deep/f": "", "home/ada/rootly/f": "", "home/ada/ofbob/f": "",
		"home/ada/abs": "->/root/.ssh", "home/ada/rel": "->../../root/.ssh", "home/ada/to-own": "->own/deep", "home/ada/home": "->/home/ada/own",
		"home/ada/by-root": "->own", "home/ada/up": "->..",
		// everybody's
		"tmp/link": "->../etc/cron.d", "tmp/root-link": "->../etc/cron.d", "tmp/ada/f": "", "tmp/rootly/f": "", "tmp/chain": "->link",
		"srv/open/rootly/f": "", "srv/open/ada/f": "", "srv/open/link": "->/etc/cron.d",
		"srv/group/rootly/f": "", "srv/root-group/rootly/f": "",
		// root's
		"srv/to-ada": "->/home/ada/own", "srv/to-abs": "->/home/ada/abs",
	})
	own(t, r, ada, "home/ada", "home/ada/own", "home/ada/own/deep", "home/ada/own/deep/f", "home/ada/abs", "home/ada/rel", "home/ada/to-own",
		"home/ada/home", "home/ada/up", "tmp/link", "tmp/chain", "tmp/ada", "srv/open/ada", "srv/open/link")
	own(t, r, bob, "home/ada/ofbob")
	chmod(t, r, "tmp", os.ModeSticky|0o777)
	chmod(t, r, "srv/open", 0o777)
	chmod(t, r, "srv/group", 0o775)
	if err := os.Chown(filepath.Join(string(r), "srv/group"), 0, 50); err != nil {
		t.Fatal(err)
	}
	chmod(t, r, "srv/root-group", 0o775)
	chmod(t, r, "home/ada/own", 0o777) // whose entries are still to be ada's
	for name, ok := range map[string]bool{
		"/root/.ssh/x": true, "/home/ada/x": true, "/home/ada/own/deep/x": true, "/home/ada/to-own/x": true, "/srv/to-ada/x": true,
		"/tmp/x": true, "/tmp/ada/x": true, "/tmp/rootly/x": true, "/tmp/root-link/x": true, "/srv/open/x": true, "/srv/open/ada/x": true,
		"/srv/root-group/rootly/x": true,
		"/home/ada/abs/x":          false, "/home/ada/rel/x": false, "/home/ada/rootly/x": false, "/home/ada/ofbob/x": false,
		"/home/ada/home/x": false, "/home/ada/by-root/x": false, "/home/ada/up/ada/x": false,
		"/tmp/link/x": false, "/tmp/chain/x": false, "/srv/open/rootly/x": false, "/srv/open/link/x": false, "/srv/group/rootly/x": false,
		"/srv/to-abs/x": false,
	} {
		err := put(r, name, "x")
		if ok {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if _, unsafe := errors.AsType[*UnsafeError](err); !unsafe || errkind.Of(err) != errkind.Precondition || errkind.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, dir := range []string{"home/ada/rootly", "home/ada/ofbob", "srv/open/rootly", "srv/group/rootly"} {
		if _, err := os.Lstat(filepath.Join(string(r), dir, "x")); err == nil {
			t.Errorf("%s was written to", dir)
		}
	}
	err := put(r, "/home/ada/abs/x", "x")
	if want := "/home/ada/abs belongs to user ID 1000, and /, to which it leads, to user ID 0"; !strings.Contains(err.Error(), want) {
		t.Errorf("the error says %v", err)
	}
}

// The last part of a name counts where it is read: root must not copy for one user what
// only another one may read.
func TestATargetOfSomebodyElseIsRefused(t *testing.T) {
	needsRoot(t)
	r := tree(t, map[string]string{"etc/shadow": "secret", "home/ada/link": "->/etc/shadow", "home/ada/hard": "", "home/ada/own": "", "srv/link": "->/home/ada/own"})
	own(t, r, ada, "home/ada", "home/ada/link", "home/ada/own")
	for name, ok := range map[string]bool{"/home/ada/own": true, "/srv/link": true, "/home/ada/link": false, "/home/ada/hard": false} {
		d, _, err := r.Target(name)
		if err == nil {
			err = d.Close()
		}
		if _, unsafe := errors.AsType[*UnsafeError](err); unsafe == ok || err != nil == ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// All below a user's folder has to be that user's, or it could not be changed again.
func TestFoldersThatAreMadeBelongToTheUserOfTheFolder(t *testing.T) {
	needsRoot(t)
	r := tree(t, map[string]string{"home/ada/f": ""})
	own(t, r, ada, "home/ada")
	for range 2 {
		d, err := r.MakeDir("/home/ada/new/sub", 0o755)
		if err != nil {
			t.Fatal(err)
		}
		if uid, gid := d.Owner(); uid != ada || gid != ada || !d.IsForeign() {
			t.Errorf("it belongs to %d:%d", uid, gid)
		}
		if _, err := d.OnHost(); errkind.Of(err) != errkind.Precondition {
			t.Errorf("a path that its user can change is given: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Who owns the root folder can replace all of the tree: they are its superuser.
func TestTheOwnerOfTheRootFolderIsTrusted(t *testing.T) {
	needsRoot(t)
	r := tree(t, map[string]string{"etc/sub/f": "", "home/bob/f": "", "home/bob/link": "->/etc/sub"})
	own(t, r, ada, ".", "etc")
	own(t, r, bob, "home/bob", "home/bob/link")
	if err := put(r, "/etc/sub/x", "x"); err != nil {
		t.Error(err)
	}
	if err := put(r, "/home/bob/link/x", "x"); errkind.Of(err) != errkind.Precondition {
		t.Errorf("a link of somebody else: %v", err)
	}
}

func TestASweepLeavesTheFoldersOfOthersAlone(t *testing.T) {
	needsRoot(t)
	r := tree(t, map[string]string{"home/ada/.f.1/backup": "", "home/ada/.f.2": "left", "home/ada/f": ""})
	own(t, r, ada, "home/ada")
	d, err := r.Dir("/home/ada")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Sweep("f"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(string(r), "home/ada/.f.1/backup")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(string(r), "home/ada/.f.2")); err == nil {
		t.Error("a file that was half made is left")
	}
}
