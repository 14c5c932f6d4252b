package newos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/mount"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// outward returns a host that services an image, and two targets of a link at name in the
// image. They lead to folders of the host: to the one at name, or to opt/trap.
func outward(t *testing.T, name string) (host string, s *OS, targets map[string]string) {
	t.Helper()
	host = hosttest.TempDir(t)
	for _, dir := range []string{newRoot, "etc/cron.hourly", "etc/systemd/system", "tmp", "home", "root/.ssh", "var/lib/extensions", "var/lib/trident", "opt/trap"} {
		if err := hosttest.MkdirAll(filepath.Join(host, dir)); err != nil {
			t.Fatal(err)
		}
	}
	hosttest.Write(t, filepath.Join(host, "var/lib/trident/script"), "echo hi\n")
	hosttest.Write(t, filepath.Join(host, "etc/fstab"), "of the host\n")
	hosttest.Write(t, filepath.Join(host, "root/.ssh/authorized_keys"), "of the host\n")
	ups := strings.Repeat("../", 1+strings.Count(newRoot, "/")+strings.Count(name, "/"))
	return host, &OS{Host: change.New(change.Host{Root: host})}, map[string]string{"absolute": filepath.Join(host, name), "relative": ups + "opt/trap"}
}

// hostFiles returns all files of a host outside of the new root.
func hostFiles(t *testing.T, host string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(host, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == filepath.Join(host, newRoot) {
			return errors.Join(err, fs.SkipDir)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := []byte(nil)
		if d.Type().IsRegular() {
			text, err = os.ReadFile(file)
		}
		out[file] = fmt.Sprint(info.Mode(), " ", string(text))
		return err
	})
	if err != nil && !errors.Is(err, fs.SkipDir) {
		t.Fatal(err)
	}
	return out
}

// mountPoints records where file systems are mounted.
type mountPoints []string

func (m *mountPoints) Mount(_ mount.FileSystem, on *os.File) error {
	at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", on.Fd()))
	*m = append(*m, at)
	return err
}

func (m *mountPoints) Unmount(string) error { return nil }

func TestALinkOfAnImageLeadsNothingToTheHost(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tmp", "run", "etc", "etc/cron.hourly", "etc/systemd", "home", "root/.ssh", "root", "var/lib/extensions", "var/lib/trident", "var/lib", "var"} {
		host, s, targets := outward(t, name)
		for kind, target := range targets {
			for _, there := range []bool{false, true} { // whether the image has the target too
				root := filepath.Join(host, newRoot)
				if err := errors.Join(os.RemoveAll(root), hosttest.MkdirAll(filepath.Join(root, filepath.Dir(name))), os.Symlink(target, filepath.Join(root, name))); err != nil {
					t.Fatal(err)
				}
				if there {
					inTree := target
					if kind == "relative" {
						inTree = "opt/trap"
					}
					if err := hosttest.MkdirAll(filepath.Join(root, inTree)); err != nil {
						t.Fatal(err)
					}
				}
				before := hostFiles(t, host)
				var mounts mountPoints
				s.Machine.Mounts = &mounts
				in := s
				write := func(name string) error { return in.put(root, name, 0o644, "of the image\n") }
				// These writes may fail only if the image does not have the target.
				for what, err := range map[string]error{
					"fstab": write("/etc/fstab"), "key": write("/root/.ssh/authorized_keys"), "home": write("/home/u/f"), "cron": write("/etc/cron.hourly/f"),
					"link": osconfig.Link(root, guardLink, "../"+guardTimer), "ID": osconfig.Carry(host, root, true),
				} {
					if err != nil && there {
						t.Errorf("/%s is a link to %s: %s: %v", name, target, what, err)
					}
				}
				if err := osconfig.Remove(root, "/root/.ssh/authorized_keys"); err != nil {
					t.Errorf("/%s is a link to %s: remove: %v", name, target, err)
				}
				for _, at := range []string{"/tmp", "/home", "/etc", "/var/lib/extensions", "/root/.ssh", "/var/lib/trident"} {
					if err := in.Machine.MountIn(root, at, "", false); err != nil {
						t.Errorf("/%s is a link to %s: %v", name, target, err)
					}
				}
				mark, err := inOwnFolder(root, "/"+change.UnsettledMark)
				if err != nil {
					t.Errorf("/%s is a link to %s: %v", name, target, err)
				}
				outside := func(at string) bool { return !strings.HasPrefix(at, root+"/") }
				if slices.ContainsFunc(append(mounts, mark), outside) {
					t.Errorf("/%s is a link to %s: mounted on %q, wrote to %s", name, target, mounts, mark)
				}
				ran := false
				s.Systemd = &systemdtest.Fake{Hook: func(_ context.Context, c systemdtest.Call) error {
					if c.Method != "StartTransient" {
						return nil
					}
					text, err := inroot.FS(root).ReadFile("run/trident-script-labels", 100)
					if ran = string(text) == "echo hi\n"; !ran || err != nil {
						t.Errorf("/%s is a link to %s: the script is %q, %v", name, target, text, err)
					}
					return os.WriteFile(filepath.Join(s.WorkDir("x"), "labels.status"), []byte("0\n"), 0o600)
				}}
				_, err = hooks.RunInside(t.Context(), s.Host, "x", "labels", "echo hi\n", hostconfig.OnABUpdate, tree)
				if err := errors.Join(err, os.RemoveAll(filepath.Join(host, change.Dir))); err != nil || !ran {
					t.Errorf("/%s is a link to %s: it ran: %v, %v", name, target, ran, err)
				}
				if diff := cmp.Diff(before, hostFiles(t, host)); diff != "" {
					t.Fatalf("/%s is a link to %s: %s", name, target, diff)
				}
			}
		}
	}
}

func TestOnlyRootCanEnterTheFolderOfTheNewRoot(t *testing.T) {
	t.Parallel()
	root := hosttest.TempDir(t)
	above := filepath.Join(root, filepath.Dir(newRoot))
	if err := errors.Join(hosttest.MkdirAll(above), os.Chmod(above, 0o755)); err != nil { // another program may have made it
		t.Fatal(err)
	}
	entered := 0
	s := &OS{Host: change.New(change.Host{Root: root}), Machine: machine.Machine{Mounts: &mountPoints{}}, Reopen: nothingToOpen}
	r := &record.Run{}
	r.State.Asked = hostconfig.NewRecorded("storage: {filesystems: [{mountPoint: {path: /}, source: new, type: tmpfs}]}")
	err := s.withTree(t.Context(), r, false, func(*hostconfig.Config, string) error {
		entered++
		info, err := os.Stat(above)
		if err == nil && info.Mode().Perm() != 0o700 {
			t.Errorf("the folder above the new root: %s", info.Mode())
		}
		return err
	})
	if err != nil || entered != 1 {
		t.Error(entered, err)
	}
}

func nothingToOpen(context.Context, *record.Run, *hostconfig.Config) error { return nil }
