package servicing

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/slot"
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
	a, settings := newAlbum(t), newGallery(t).settings
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
	a, own := newAlbum(t), newGallery(t).trident2
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
	a, g := newAlbum(t), newGallery(t)
	// withFull installs a version with extensions, for which the host is full.
	withFull := func(class string, check func(w *osWorld, op *operation.Operation), pictures ...picture) {
		t.Helper()
		var list []string
		for _, p := range pictures {
			list = append(list, fmt.Sprintf("{url: %q, sha384: %s}", p.url(), p.sha))
		}
		text := inVersion(v1, fmt.Sprintf("  %s: [%s]\n", class, strings.Join(list, ", ")))
		synctest.Test(t, func(t *testing.T) {
			w := newOSWorld(t, a)
			w.powerOn()
			for _, p := range pictures {
				write(t, filepath.Join(w.root, "srv", p.sha), string(p.data))
			}
			w.FullAfter = "make room for extensions"
			kind, start := installing(text, true, true)(w)
			op := w.run(kind, start, "")
			lacks(t, "the operation", w.says(op.ID), "the extensions of the new system are checked only after its disk is written: ")
			if !slices.Contains(w.Trace, "discard extensions") {
				t.Errorf("what was fetched so far stays: %v", w.Trace)
			}
			check(w, op)
			w.rest()
		})
	}
	withFull("confexts", func(w *osWorld, op *operation.Operation) {
		data := fileText(t, filepath.Join(w.root, "var/lib/confexts/settings.raw"))
		if op.Phase != operation.Done || data != string(g.settings.data) {
			t.Errorf("%s: %+v: the extension has %d bytes", op.Phase, op.Failure, len(data))
		}
	}, g.settings)
	refused := func(kind errkind.Kind, says string) func(*osWorld, *operation.Operation) {
		return func(_ *osWorld, op *operation.Operation) {
			t.Helper()
			if f := op.Failure; op.Phase != operation.Undone || op.Reached != "configure" || f.Kind != kind || f.Name != "PopulateExtensionImages" || !strings.Contains(f.Message, says) {
				t.Errorf("%s at %q: %+v", op.Phase, op.Reached, f)
			}
		}
	}
	withFull("sysexts", refused(errkind.Unsupported, "an image of Trident itself"), g.trident2)
	withFull("sysexts", refused(errkind.Invalid, "two sysexts would be at /var/lib/extensions/app.raw"), g.app1, g.app2)
	other := g.tool
	other.data = g.app1.data // not the file of this digest
	withFull("sysexts", refused(errkind.Corrupt, "SHA-384"), other)
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
				if slices.ContainsFunc(w.Trace, func(touch string) bool { return strings.HasPrefix(touch, "reload ssh") }) {
					w.t.Errorf("a server that does not run is reloaded: %v", w.Trace)
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
						t.Errorf("%s: %+v; touches: %v", op.Phase, f, w.Trace)
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
	a, settings := newAlbum(t), newGallery(t).settings
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
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

// A root file system that the live system cannot look into, for want of memory or of a
// kernel that mounts it, is installed, and its faults are found when they matter.
func TestATreeThatCannotBeReadIsCheckedLater(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	const size, window = 20 << 20, 8 << 20 // zstd has no larger windows unless it is asked for
	faulty := assembled(t, "faulty", "dd", boottest.ESP(boot.AMD64, "faulty"), fstest.MapFS{"opt": {Data: []byte("no/such/folder"), Mode: fs.ModeSymlink | 0o777}}, "",
		func(root []byte) []byte { return append(root, make([]byte, size)...) })
	text := func(*album) string {
		large := replaced("type: root, size: 8M", "type: root, size: 22M")(hostOf(faulty, ""))
		return replaced("destination: /etc/of.conf", "destination: /opt/of.conf")(scriptless(large))
	}
	for title, c := range map[string]struct {
		world   func(w *osWorld)
		reached string
		named   string // upstream's name
		says    string
	}{
		"all is well":    {func(*osWorld) {}, "image", "WriteAdditionalFile", "opt is a link to nowhere"},
		"no memory":      {func(w *osWorld) { w.memory = image.UnpackMemory(window) }, "configure", "WriteAdditionalFile", "/opt/of.conf"},
		"no kernel":      {func(w *osWorld) { w.noTree = errkind.Errorf(errkind.Unsupported, "no loop devices") }, "configure", "WriteAdditionalFile", "/opt/of.conf"},
		"no file system": {func(w *osWorld) { w.noTree = errkind.Errorf(errkind.Corrupt, "bad superblock") }, "image", "MountNewroot", "the image's file system for /: bad superblock"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newOSWorld(t, a)
				w.powerOn()
				write(t, filepath.Join(w.root, "srv/faulty.cosi"), fileText(t, faulty.path))
				c.world(w)
				op := w.begun(installing(text, true, false))
				if f := op.Failure; op.Phase != operation.Undone || op.Reached != c.reached || f.Name != c.named || !strings.Contains(f.Message, c.says) {
					t.Errorf("%s at %q: %+v", op.Phase, op.Reached, f)
				}
				w.rest()
			})
		})
	}
}

// A host may be installed without a second slot, and then has none to update into.
func TestAHostWithOneSlotIsInstalled(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	single := func(text func(*album) string) func(*album) string {
		return func(a *album) string {
			text := replaced("  abUpdate: {volumePairs: [{id: root, volumeAId: root-a, volumeBId: root-b}]}\n", "")(text(a))
			text = replaced("    - {id: root-b, type: root, size: 8M}\n", "")(text)
			return replaced("{deviceId: root, mountPoint: /}", "{deviceId: root-a, mountPoint: /}")(text)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(single(v1), true, true))
		if st := w.status(); st.ABActiveVolume != "" || w.text("etc/of.conf") != "of v1" {
			t.Errorf("the active volume is %q, of.conf %q", st.ABActiveVolume, w.text("etc/of.conf"))
		}
		w.wantRefused([]refusal{{"update", func(s *Service) (string, error) {
			return s.Update(t.Context(), UpdateRequest{Config: w.parse(single(v2)(a)), Stage: true})
		}, errkind.Precondition, errkind.NameInvalidHostConfigurationDynamic, "this host has no A/B volumes, so it has no other slot"}})
		w.rest()
	})
}

// A system without Trident gets neither a datastore nor an operation to continue.
func TestASystemWithoutTridentIsNotHandedAnything(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		op := w.begun(installing(func(a *album) string { return hostOf(a.v1, "trident: {disable: true}\n") }, true, true))
		if op.Waiting != operation.Reboot {
			t.Fatalf("%s: %+v", op.Phase, op.Failure)
		}
		shared := w.stored("trident")
		if names, err := filepath.Glob(filepath.Join(shared, "*")); err != nil || len(names) > 0 {
			t.Errorf("the shared partition has %v, %v", names, err)
		}
		w.rest()
		w.powerOn()
		if w.slot != slot.A {
			t.Errorf("%v runs", w.slot)
		}
		w.rest()
	})
}

// Where udev runs, an installation needs its tool, and says so before it changes a disk.
func TestAnInstallationBesideUdevNeedsItsTool(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.lacks = []string{"udevadm"}
		if _, err := w.daemon.service.PlanInstall(t.Context(), w.parse(v1(a))); err != nil {
			t.Errorf("without udev: %v", err)
		}
		w.daemon.service.disk.Disks.Machine.Disks.Udev = true
		w.wantUnfit(v1(a), false, errkind.Precondition, "MissingBinary", "find the tool udevadm: there is none")
		w.rest()
	})
}
