package servicing

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/systemd"
)

// stored unpacks the file system of a partition that the machine has mounted nowhere.
func (w *osWorld) stored(label string) string {
	w.t.Helper()
	p, ok := findLabel(w.inventory(), label)
	if !ok {
		w.t.Fatalf("no partition %s", label)
	}
	dir := tempDir(w.t)
	w.unpack(p.Path, dir)
	return dir
}

// inVersion is the configuration of a version with more in its section os.
func inVersion(text func(*album) string, line string) func(*album) string {
	return func(a *album) string { return added("os", line)(text(a)) }
}

// A plan names all that the new system gets, and neither the addresses nor the secrets of it.
func TestAPlanSaysWhatTheNewSystemGets(t *testing.T) {
	t.Parallel()
	a, settings := newAlbum(t), confext(t, "settings", "1")
	settingsOf := fmt.Sprintf(`  users: [{name: ada}]
  hostname: host
  services: {enable: [sshd], disable: [cups]}
  selinux: {mode: permissive}
  netplan: {version: 2}
  confexts: [{url: %q, sha384: %s}]
`, settings.url(), settings.sha)
	effects := []string{
		"write /etc/fstab of the new system", "set up the user ada", "set the name of the host to host", "set up the kernel module loop", "enable sshd", "disable cups",
		"set the mode of SELinux to permissive", "write the network configuration", "write /etc/of.conf", "add the confext " + settings.sha,
	}
	for _, update := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newOSWorld(t, a)
			w.powerOn()
			plan, text := w.daemon.service.PlanInstall, inVersion(func(a *album) string { return hostOf(a.v1, managed) }, settingsOf)(a)
			want := append(slices.Clone(effects), "set up the user root of the live system", "set up the network of the live system",
				"replace the partition table of /dev/vdb; everything outside of adopted partitions is lost", "have the new system make a machine ID at its first boot")
			unwanted := []string{"remove the boot files", "give the new system the identity of this host"}
			if update {
				w.must(installing(v1, true, true))
				plan, text = w.daemon.service.Plan, inVersion(v2, settingsOf)(a)
				want, unwanted = append(slices.Clone(effects), "remove the boot files and the boot entry of volume-b", "give the new system the identity of this host"),
					[]string{"live system", "replace the partition table", "make a machine ID"}
			}
			write(t, filepath.Join(w.root, "srv", settings.sha), string(settings.data))
			p, err := plan(t.Context(), w.parse(text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range p.Effects() {
				got = append(got, e.Text)
			}
			for _, text := range want {
				if !slices.Contains(got, text) {
					t.Errorf("update %v: the plan does not say %q, but\n%s", update, text, strings.Join(got, "\n"))
				}
			}
			for _, text := range unwanted {
				if strings.Contains(p.String(), text) {
					t.Errorf("update %v: the plan says %q:\n%s", update, text, p)
				}
			}
			if !slices.ContainsFunc(p.Warnings, func(s string) bool {
				return strings.Contains(s, "SELinux is permissive in the new system: extensions change the labels of files")
			}) {
				t.Errorf("update %v: it warns of %q", update, p.Warnings)
			}
			w.rest()
		})
	}
}

// An image of Trident itself is no extension of a new system, and nothing is changed for it.
func TestTridentsOwnImageIsRefusedForANewSystem(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	own, _ := trident(t, "2.0.0")
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		write(t, filepath.Join(w.root, "srv", own.sha), string(own.data))
		w.wantUnfit(inVersion(v1, fmt.Sprintf("  sysexts: [{url: %q, sha384: %s}]\n", own.url(), own.sha))(a), false, errkind.Unsupported, "PopulateExtensionImages",
			"os.sysexts lists an image of Trident itself, which cannot be activated in a new system")
		if st := w.status(); st.LastError == nil || !strings.Contains(st.LastError.Message, "os.sysexts lists") {
			t.Errorf("the last error is %+v", st.LastError)
		}
		w.rest()
	})
}

// A host without room for the extensions of the new system installs it, and checks them once
// the disk is written.
func TestExtensionsThatTheHostHasNoRoomForAreFetchedIntoTheNewSystem(t *testing.T) {
	t.Parallel()
	a, settings := newAlbum(t), confext(t, "settings", "1")
	text := inVersion(v1, fmt.Sprintf("  confexts: [{url: %q, sha384: %s}]\n", settings.url(), settings.sha))
	place := func(w *osWorld) { write(t, filepath.Join(w.root, "srv", settings.sha), string(settings.data)) }
	var fetch int
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		place(w)
		w.must(installing(text, true, false))
		fetch = slices.Index(w.trace, "make room for extensions") + 2
		w.rest()
	})
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		place(w)
		w.failAt = fetch
		kind, start := installing(text, true, true)(w)
		op := w.run(kind, start, "")
		if op.Phase != operation.Done {
			t.Fatalf("%s: %+v\ntouches: %v", op.Phase, op.Failure, w.trace)
		}
		lacks(t, "the operation", w.says(op.ID), "the extensions of the new system are checked only after its disk is written: ")
		if !slices.Contains(w.trace, "discard extensions") {
			t.Errorf("what was fetched so far stays: %v", w.trace)
		}
		if data := fileText(t, filepath.Join(w.root, "var/lib/confexts/settings.raw")); data != string(settings.data) {
			t.Errorf("the extension has %d bytes", len(data))
		}
		w.rest()
	})
}

// The settings of Trident itself are in the new system.
func TestTheNewSystemKnowsTheSettingsOfTrident(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(func(a *album) string {
			return hostOf(a.v1, "trident: {datastorePath: /var/lib/trident/state/host.sqlite}\n")
		}, true, false))
		if got := fileText(t, filepath.Join(w.stored("root-a"), "etc/trident/trident.conf")); got != "DatastorePath=/var/lib/trident/state/host.sqlite\n" {
			t.Errorf("trident.conf is %q", got)
		}
		w.rest()
	})
	onMachine(t, func(t *testing.T, w *osWorld) {
		w.must(updating(func(a *album) string { return hostOf(a.v2, "internalParams: {trialTime: 3min}\n") }, true, false))
		if got := fileText(t, filepath.Join(w.stored("root-b"), "etc/systemd/system/trident-trial.timer")); !strings.Contains(got, "\nOnBootSec=3min\n") {
			t.Errorf("the timer of the trial is\n%s", got)
		}
	})
}

// A live system is given what an installation asks for, if it has the tools, and only then
// is a disk changed.
func TestALiveSystemThatLacksSomething(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	for title, c := range map[string]struct {
		config func(*album) string
		world  func(w *osWorld)
		named  string // upstream's name of the failure; "" for success
		says   string
		hints  string
		check  func(w *osWorld)
	}{
		"no netplan for its network": {config: func(a *album) string { return hostOf(a.v1, managed) }, world: lacking("netplan"), named: "StartNetwork",
			says: "set up managementOs.netplan: run netplan: there is none", hints: "Install netplan in the live system, or leave managementOs.netplan out.",
			check: func(w *osWorld) {
				if got := w.text(osconfig.Netplan); got != liveNetwork {
					w.t.Errorf("the network is %q", got)
				}
			}},
		"no netplan for the network of the new system": {config: inVersion(v1, "  netplan: {version: 2}\n"), world: lacking("netplan"), check: func(w *osWorld) {
			if got := fileText(w.t, filepath.Join(w.stored("root-a"), osconfig.Netplan)); !strings.Contains(got, "version: 2") {
				w.t.Errorf("the network of the new system is %q", got)
			}
		}},
		"an SSH server that does not run": {config: func(a *album) string {
			return hostOf(a.v1, "managementOs: {users: [{name: root, sshMode: key-only}]}\n")
		},
			world: func(w *osWorld) { w.systemd.Set("ssh.service", systemd.Unit{Active: "inactive"}) }, check: func(w *osWorld) {
				if slices.ContainsFunc(w.trace, func(touch string) bool { return strings.HasPrefix(touch, "reload ssh") }) {
					w.t.Errorf("a server that does not run is reloaded: %v", w.trace)
				}
			}},
		"a system on a disk that a person has named": {config: v1, world: func(w *osWorld) {
			rootOn("ext4")(w)
			write(w.t, filepath.Join(w.live, "override-trident-safety-check"), "")
		}},
		"a system on a disk": {config: v1, world: rootOn("btrfs"), named: "CleanInstallSafetyCheck", says: "its root file system is btrfs", hints: "/override-trident-safety-check"},
		"no table of mounts": {config: v1, world: func(w *osWorld) { write(w.t, filepath.Join(w.live, "proc/self/mountinfo"), "nonsense\n") },
			says: "find the type of the root file system: "},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newOSWorld(t, a)
				w.powerOn()
				c.world(w)
				before := w.state()
				op := w.begun(installing(c.config, true, false))
				if f := op.Failure; c.named != "" || c.says != "" {
					if op.Phase != operation.Undone || f.Name != c.named || !strings.Contains(f.Message, c.says) || !strings.Contains(f.Hint, c.hints) || w.state() != before {
						t.Errorf("%s: %+v; touches: %v", op.Phase, f, w.trace)
					}
				} else if op.Phase != operation.Done {
					t.Errorf("%s: %+v", op.Phase, f)
				}
				if c.check != nil {
					c.check(w)
				}
				w.rest()
			})
		})
	}
}

// A plan of an installation is made on a host that runs from a disk, too, and warns of it.
func TestAPlanOfAnInstallationWarnsOfAHostThatIsNotLive(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		rootOn("ext4")(w)
		plan, err := w.daemon.service.PlanInstall(t.Context(), w.parse(v1(a)))
		if err != nil || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "this system runs from a disk") {
			t.Errorf("%v, %v", plan, err)
		}
		w.rest()
	})
}

// What setfiles said when it failed is in the log of the operation.
func TestWhatAFailedSetfilesSaidIsLogged(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		others := w.daemon.service.Tools
		w.daemon.service.Tools = run.Func(func(ctx context.Context, name string, args ...string) ([]byte, error) {
			if name == "journalctl" {
				return []byte("line 7 is not a context\n"), nil
			}
			return others.Run(ctx, name, args...)
		})
		op := w.begun(installing(func(a *album) string { return selinuxOf(a, strings.Replace(withSetfiles, "works", "fails", 1)) }, true, false))
		if says := w.says(op.ID); op.Phase != operation.Undone || !strings.Contains(says, "setfiles said: line 7 is not a context") {
			t.Errorf("%s: it says\n%s", op.Phase, says)
		}
		w.rest()
	})
}

// The policy of SELinux in an image decides if the configuration says nothing about it.
func TestThePolicyInAnImageDecidesAboutExtensions(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		settings := confext(t, "settings", "1")
		write(t, filepath.Join(w.root, "srv", settings.sha), string(settings.data))
		extensions := fmt.Sprintf("confexts: [{url: %q, sha384: %s}]", settings.url(), settings.sha)
		w.wantUnfit(scriptless(selinuxOf(a, "os: {"+extensions+"}\n")), false, errkind.Precondition, errkind.NameInvalidHostConfigurationDynamic, "SELinux is enforced")
		op := w.begun(installing(func(a *album) string {
			return scriptless(selinuxOf(a, "os:\n  selinux: {mode: permissive}\n  "+extensions+"\n"))
		}, true, false))
		if says := w.says(op.ID); op.Phase != operation.Done || !strings.Contains(says, "SELinux is permissive in the new system") || !strings.Contains(says, "/.autorelabel asks it to do so at its boot") {
			t.Errorf("%s: %+v: it says\n%s", op.Phase, op.Failure, says)
		}
		w.rest()
	})
}

// File systems in memory, and those that are mounted read-only, have no labels to set.
func TestOnlyFileSystemsThatCanHaveLabelsAreLabelled(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(func(a *album) string {
			text := selinuxOf(a, withSetfiles)
			text = replaced("    - {id: trident,", "    - {id: docs, type: linux-generic, size: 4M}\n    - {id: trident,")(text)
			return replaced("  filesystems:\n", "  filesystems:\n  - {source: new, type: tmpfs, mountPoint: /tmp}\n  - {deviceId: docs, source: new, mountPoint: {path: /srv/docs, options: 'noatime,ro'}}\n")(text)
		}, true, false))
		got := fileText(t, filepath.Join(w.stored("root-a"), "etc/labelled"))
		if want := "exec '/usr/sbin/setfiles' -m '/etc/selinux/strict/contexts/files/file_contexts' '/' '/var/lib/trident'\n"; got != want {
			t.Errorf("labelled with %q, want %q", got, want)
		}
		w.rest()
	})
}
