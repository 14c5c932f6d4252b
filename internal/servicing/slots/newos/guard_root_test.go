//go:build root

package newos

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// A verified root has a read-only overlay on /etc. A guard that stayed there would reboot the
// host some minutes after each later boot.
func TestTheGuardGoesFromAReadOnlyOverlayOnEtc(t *testing.T) {
	root, layers := t.TempDir(), t.TempDir()
	store, err := hoststate.Open(t.Context(), filepath.Join(root, "datastore.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Record(t.Context(), hoststate.Status{Phase: hoststate.Settled{}, Spec: "os: {hostname: a}\n"}); err != nil {
		t.Fatal(err)
	}
	etc := filepath.Join(root, "etc")
	for _, dir := range []string{etc, layers + "/lower", layers + "/memory"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount := func(source, on, kind string, flags uintptr, options string) {
		t.Helper()
		if err := unix.Mount(source, on, kind, flags, options); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(on, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	memory := layers + "/memory"
	mount("tmpfs", memory, "tmpfs", 0, "") // the folder of the tests may be an overlay, too
	for _, name := range []string{guardTimer, guardService} {
		hosttest.Write(t, filepath.Join(memory, "upper/systemd/system", name), "[Unit]\n")
	}
	if err := os.Mkdir(memory+"/work", 0o755); err != nil {
		t.Fatal(err)
	}
	mount("overlay", etc, "overlay", unix.MS_RDONLY|unix.MS_NOSUID, "lowerdir="+layers+"/lower,upperdir="+memory+"/upper,workdir="+memory+"/work")

	fake := &systemdtest.Fake{}
	fake.Define(systemdtest.Definition{Name: guardTimer, Oneshot: true})
	s := &OS{Host: change.New(change.Host{Root: root, Store: store, Systemd: fake, EtcIsReadOnly: func(string) (bool, error) { return false, nil }})}
	for range 2 { // a repetition finds nothing
		if err := s.RemoveGuard(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{guardTimer, guardService} {
		if _, err := os.Lstat(filepath.Join(root, unitDir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(etc, &st); err != nil || st.Flags&unix.ST_RDONLY == 0 || st.Flags&unix.ST_NOSUID == 0 {
		t.Errorf("/etc has the flags 0x%x: %v", st.Flags, err)
	}
}
