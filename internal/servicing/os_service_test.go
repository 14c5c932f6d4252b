package servicing

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// onMachine is a test on a machine that has the system v1, in slot A.
func onMachine(t *testing.T, play func(t *testing.T, w *osWorld)) {
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(v1, true, true))
		play(t, w)
		w.rest()
	})
}

func TestACallerThatRebootsIsAskedTo(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, w *osWorld) {
		ctx := t.Context()
		id, err := w.daemon.service.Update(ctx, UpdateRequest{Config: w.parse(hostOf(w.album.sick, failing)), Stage: true, Finalize: true, CallerReboots: true})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		op := w.waiting(id)
		if out, ok := w.daemon.service.Outcome(op); !ok || !out.RebootNeeded || out.Kind != ABUpdate || out.ImageSHA384 != w.album.sick.sha || w.reboots {
			t.Fatalf("%+v, %+v", out, op)
		}
		if st := w.status(); st.Phase != hoststate.TryingABUpdate {
			t.Errorf("the status is %+v", st)
		}
		if _, err := w.daemon.service.Commit(ctx, true); errkind.Of(err) != errkind.Busy {
			t.Errorf("commit before the boot: %v", err)
		}
		w.rest()
		w.powerOn()
		op = w.waiting(id)
		if w.slot != slot.B || op.Phase != operation.Undoing || w.reboots {
			t.Fatalf("%v runs: %+v", w.slot, op)
		}
		if st := w.status(); st.Phase != hoststate.TryingABUpdateFailed || st.LastError == nil {
			t.Errorf("the status is %+v", st)
		}
		if got, err := w.daemon.service.Commit(ctx, false); got != id || err != nil || !w.reboots {
			t.Errorf("commit, and Trident reboots: %q, %v, %v", got, err, w.reboots)
		}
		if op := w.settled(""); op.Phase != operation.Undone || w.slot != slot.A {
			t.Errorf("%+v", op)
		}
		if got, err := w.daemon.service.Commit(ctx, false); got != id || err != nil {
			t.Errorf("commit in the old system: %q, %v", got, err)
		}
		w.rest()
		w.powerOn()
		if got, err := w.daemon.service.Commit(ctx, false); got != "" || err != nil {
			t.Errorf("commit when all is over: %q, %v", got, err)
		}
	})
}

// waiting is an operation that waits for a reboot.
func (w *osWorld) waiting(id string) operation.Operation {
	w.t.Helper()
	for _, err := range w.daemon.runner.Watch(w.t.Context(), id, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		op, err := w.daemon.runner.Get(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		if op.Waiting == operation.Reboot || op.Phase.Settled() {
			return op
		}
	}
	w.t.Fatal("it does not wait")
	return operation.Operation{}
}

func TestAnUpdateThatUpstreamFinalizedIsCommitted(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, w *osWorld) {
		w.must(updating(v2, true, true))
		st := w.status() // as if upstream had come so far
		st.Phase, st.SpecOld, st.ABActiveVolume = hoststate.TryingABUpdate, st.Spec, hoststate.VolumeA
		if err := w.daemon.store.Record(t.Context(), st); err != nil {
			t.Fatal(err)
		}
		w.rest()
		w.powerOn()
		kind, op := "commit", w.run("commit", func(s *Service) (string, error) { return s.Commit(t.Context(), false) }, "")
		if st := w.status(); op.Phase != operation.Done || op.Kind != kind || st.Phase != (hoststate.Settled{}) || st.ABActiveVolume != hoststate.VolumeB {
			t.Errorf("%+v, %+v", op, st)
		}
	})
}

func TestBadRequestsForAnOSAreRefusedInOneSentence(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, w *osWorld) {
		ctx, s, a := t.Context(), w.daemon.service, w.album
		_, err := s.Install(ctx, InstallRequest{Config: w.parse(v1(a)), Stage: true, Finalize: true})
		if errkind.Variant(err) != "CleanInstallOnProvisionedHost" {
			t.Errorf("install again: %v", err)
		}
		for name, c := range map[string]struct{ text, variant, says string }{
			"an image that is not there": {strings.Replace(v2(a), "v2.cosi", "v9.cosi", 1), "LoadCosi", "v9.cosi"},
			"another hash":               {strings.Replace(v2(a), a.v2.sha, strings.Repeat("a", 96), 1), "CorruptOsImage", "sha-384"},
		} {
			id, err := s.Update(ctx, UpdateRequest{Config: w.parse(c.text), Stage: true, Finalize: true})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			synctest.Wait()
			op := w.settled("")
			if op.ID != id || op.Phase != operation.Undone || op.Failure.Name != c.variant || !strings.Contains(strings.ToLower(op.Failure.Message), strings.ToLower(c.says)) {
				t.Errorf("%s: %s, %+v", name, op.Phase, op.Failure)
			}
			if st := w.status(); st.Phase != (hoststate.Settled{}) || w.slot != slot.A {
				t.Errorf("%s: %+v", name, st)
			}
		}
		id, err := s.CheckRoot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if op := w.settled(""); op.ID != id || op.Phase != operation.Done {
			t.Errorf("check root: %+v", op)
		}
		st := w.status()
		st.ABActiveVolume = hoststate.VolumeB
		if err := w.daemon.store.Record(ctx, st); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CheckRoot(ctx); err != nil {
			t.Fatal(err)
		}
		if op := w.settled(""); op.Phase != operation.Undone || op.Failure.Name != "RootDevicePathAbActiveVolumeMismatch" {
			t.Errorf("check root: %+v", op)
		}
		if _, err := s.Update(ctx, UpdateRequest{Config: w.parse(v2(a)), Stage: true, Finalize: true}); errkind.Variant(err) != "RootDevicePathAbActiveVolumeMismatch" {
			t.Errorf("an update while the status is wrong: %v", err)
		}
	})
}

func TestTheExtensionsOfAConfigurationAreInTheNewSlot(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	onMachine(t, func(t *testing.T, w *osWorld) {
		write(t, filepath.Join(w.root, "srv", g.tool.sha), string(g.tool.data))
		text := strings.Replace(v2(w.album), "os:\n", fmt.Sprintf("os:\n  sysexts: [{url: %q, sha384: %s}]\n", g.tool.url(), g.tool.sha), 1)
		w.must(updating(func(*album) string { return text }, true, true))
		link := filepath.Join(w.root, "var/lib/extensions/tool.raw")
		data, err := os.ReadFile(link)
		if target, lerr := os.Readlink(link); err != nil || lerr != nil || string(data) != string(g.tool.data) {
			t.Errorf("%q, %v, %v", target, err, lerr)
		}
		if st := w.status(); !strings.Contains(st.Spec, "/var/lib/extensions/tool.raw") {
			t.Errorf("recorded is %s", st.Spec)
		}
	})
}

func TestADiskIsWrittenWhole(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		_, err := w.daemon.service.StreamDisk(t.Context(), StreamRequest{URL: "file:///srv/v1.cosi", SHA384: a.v1.sha})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !w.reboots {
			t.Fatalf("no reboot: %v", w.Trace)
		}
		for label, want := range map[string]string{"esp": "vfat", "root": "ext4"} {
			if p, ok := findLabel(w.inventory(), label); !ok || p.Content.Type != want {
				t.Errorf("%s: %+v", label, p)
			}
		}
		w.reboots = false
		w.stopDaemon()
		w.daemon = nil
	})
}

// A daemon may be ended after it has written down that it waits for a reboot, and
// before it has asked for it; on the way there, and on the way back.
func TestTheNextDaemonRequestsAMissingReboot(t *testing.T) {
	t.Parallel()
	for n, c := range []struct {
		text func(*album) string
		want operation.Phase
		runs slot.Slot
	}{
		{v2, operation.Done, slot.B},
		{func(a *album) string { return hostOf(a.sick, failing) }, operation.Undone, slot.A},
	} {
		onMachine(t, func(t *testing.T, w *osWorld) {
			w.unheard = n + 1
			if _, err := w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(c.text(w.album)), Stage: true, Finalize: true}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			for range n {
				w.rest()
				w.powerOn()
				time.Sleep(5 * time.Second) // health
				synctest.Wait()
			}
			w.stopDaemon()
			if w.unheard != 0 || w.reboots {
				t.Fatalf("the reboot is asked for: %v", w.Trace)
			}
			w.startDaemon()
			if op := w.settled(""); op.Phase != c.want || w.slot != c.runs {
				t.Errorf("%v runs: %s, %+v", w.slot, op.Phase, op.Failure)
			}
		})
	}
}

func TestARefusedRebootIsReportedOnceAndTheHostIsUnchanged(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, w *osWorld) {
		w.systemd.Hook = func(ctx context.Context, c systemdtest.Call) error {
			if c.Method == "Reboot" {
				return errkind.Errorf(errkind.Unavailable, "there is a shutdown already")
			}
			return w.called(ctx, c)
		}
		if _, err := w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(v2(w.album)), Stage: true, Finalize: true}); err != nil {
			t.Fatal(err)
		}
		op := w.settled("")
		if op.Phase != operation.Undone || op.Failure.Name != "Reboot" || op.Failure.Message != "reboot: there is a shutdown already" {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
		if st := w.status(); st.Phase != (hoststate.Settled{}) || st.LastError == nil || !tellsOf(st.LastError, *op) {
			t.Errorf("the status is %+v", st)
		}
		w.rest()
		w.powerOn()
		if w.slot != slot.A {
			t.Errorf("%v boots", w.slot)
		}
	})
}

func TestAFaultyManagementOSIsRefused(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	for name, c := range map[string]struct {
		management, variant, says string
		prepare                   func(w *osWorld)
	}{
		"a network that netplan does not take": {"netplan: {version: 2, ethernets: {nonsense: {}}}", "StartNetwork", "it does not parse", nil},
		"a user who is in no group that there is": {"users: [{name: root, secondaryGroups: [wizards]}]", "SetUpUsers",
			"management os: set up managementOs.users: user root: these groups do not exist in the OS: wizards", nil},
		"a user that cannot be": {"users: [{name: 'a b'}]", "", "managementOs.users[0].name", nil},
		"a system that is not live": {"users: [{name: root}]", "CleanInstallSafetyCheck", "runs from a disk", func(w *osWorld) {
			write(t, filepath.Join(w.live, "proc/self/mountinfo"), "22 1 0:5 / / rw - ext4 /dev/vda rw\n")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newOSWorld(t, a)
				w.powerOn()
				if c.prepare != nil {
					c.prepare(w)
				}
				_, start := installing(func(a *album) string { return hostOf(a.v1, "managementOs: {"+c.management+"}\n") }, true, true)(w)
				op := w.run("install", start, "")
				if op.Phase != operation.Undone || op.Failure.Name != c.variant || !strings.Contains(op.Failure.Message, c.says) {
					t.Errorf("%s: %+v", op.Phase, op.Failure)
				}
				if got := w.text("etc/netplan/99-trident.yaml"); got != liveNetwork || w.text("run/network") != got {
					t.Errorf("the network is %q", got)
				}
				w.rest()
			})
		})
	}
}

func TestAnUpdateIgnoresTheManagementOS(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, w *osWorld) {
		w.must(updating(func(a *album) string { return hostOf(a.v2, managed) }, true, true))
		if w.has("etc/netplan/99-trident.yaml") || slices.Contains(w.Trace, "apply network") {
			t.Errorf("%v", w.Trace)
		}
	})
}

// A connection that leads to the installer is not cut off by a network that it has
// already.
func TestANetworkThatIsThereIsLeftAlone(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		write(t, filepath.Join(w.live, osconfig.Netplan), "network:\n  version: 2\n")
		w.powerOn()
		w.must(installing(func(a *album) string { return hostOf(a.v1, "managementOs: {netplan: {version: 2}}\n") }, true, false))
		if slices.Contains(w.Trace, "apply network") {
			t.Errorf("%v", w.Trace)
		}
		w.rest()
	})
}
