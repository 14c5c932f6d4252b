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
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/slot"
)

// host is a configuration for an image.
func hostOf(i osImage, more string) string {
	return fmt.Sprintf(`
image: {url: "file:///srv/%s.cosi", sha384: %s}
storage:
  disks:
  - id: disk
    device: /dev/vdb
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 32M}
    - {id: root-a, type: root, size: 8M}
    - {id: root-b, type: root, size: 8M}
    - {id: trident, type: linux-generic, size: grow}
  abUpdate: {volumePairs: [{id: root, volumeAId: root-a, volumeBId: root-b}]}
  filesystems:
  - {deviceId: esp, mountPoint: /boot/efi}
  - {deviceId: root, mountPoint: /}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
os:
  additionalFiles: [{destination: /etc/of.conf, content: of %s}]
  modules: [{name: loop, loadMode: always}]
scripts:
  preServicing: [{name: pre, runOn: [all], content: pre}]
  postProvision: [{name: provision, runOn: [all], content: provision}]
  postConfigure: [{name: post, runOn: [all], content: post}]
%s`, i.version, i.sha, i.version, more)
}

const failing = "health: {checks: [{name: sick, runOn: [all], content: fail}]}\n"

const managed = "managementOs: {netplan: {version: 2, ethernets: {eth0: {dhcp4: true}}}, users: [{name: root, sshMode: key-only}]}\n"

// An osScenario is a servicing of a whole OS and where it has to lead.
type osScenario struct {
	name     string
	from     func(*album) string // what is installed before; nil: nothing
	do       func(w *osWorld) (kind string, start func(*Service) (string, error))
	then     func(w *osWorld) (kind string, start func(*Service) (string, error)) // after a reboot
	cancelAt string
	want     operation.Phase
	kind     errkind.Kind // of the failure
	named    string       // upstream's name of it
	runs     slot.Slot    // at the end
	version  string       // of the OS at the end
	network  string       // that the live system has at the end; "" is not looked at
	cut      int          // where the power is cut
}

// Where the power is cut: around the changes of a scenario.
const (
	hereAndThere = iota
	onOneSide
	everywhere
)

type doing = func(w *osWorld) (string, func(*Service) (string, error))

func installing(text func(*album) string, stage, finalize bool) doing {
	return func(w *osWorld) (string, func(*Service) (string, error)) {
		kind := "install"
		switch {
		case !finalize:
			kind = "install-stage"
		case !stage:
			kind = "install-finalize"
		}
		c := w.parse(text(w.album))
		return kind, func(s *Service) (string, error) {
			if !stage {
				return s.FinalizeInstall(context.Background(), false)
			}
			return s.Install(context.Background(), InstallRequest{Config: c, Stage: true, Finalize: finalize})
		}
	}
}

func updating(text func(*album) string, stage, finalize bool) doing {
	return func(w *osWorld) (string, func(*Service) (string, error)) {
		kind := "ab-update"
		switch {
		case !finalize:
			kind = "ab-update-stage"
		case !stage:
			kind = "ab-update-finalize"
		}
		c := w.parse(text(w.album))
		return kind, func(s *Service) (string, error) {
			if !stage {
				return s.Finalize(context.Background(), false)
			}
			return s.Update(context.Background(), UpdateRequest{Config: c, Stage: true, Finalize: finalize})
		}
	}
}

func rollingBack(w *osWorld) (string, func(*Service) (string, error)) {
	return "ab-rollback", func(s *Service) (string, error) {
		return s.Rollback(context.Background(), RollbackRequest{Kind: hoststate.ABLink, Stage: true, Finalize: true})
	}
}

func v1(a *album) string { return hostOf(a.v1, "") }
func v2(a *album) string { return hostOf(a.v2, "") }

func hangs(a *album) string { return strings.Replace(v2(a), "content: post}", "content: hang}", 1) }

var osScenarios = []osScenario{
	{name: "install", do: installing(v1, true, true), want: operation.Done, runs: slot.A, version: "v1", cut: onOneSide},
	{name: "install, staged and finalized apart", do: installing(v1, true, false), then: installing(v1, false, true), want: operation.Done, runs: slot.A, version: "v1"},
	{name: "an installation that is not healthy", do: installing(func(a *album) string { return hostOf(a.v1, failing) }, true, true),
		want: operation.Undone, kind: errkind.Unhealthy, named: "HealthChecksFailed", runs: slot.A, version: "v1"},
	{name: "update", from: v1, do: updating(v2, true, true), want: operation.Done, runs: slot.B, version: "v2", cut: everywhere},
	{name: "update, staged and finalized apart", from: v1, do: updating(v2, true, false), then: updating(v2, false, true), want: operation.Done, runs: slot.B, version: "v2"},
	{name: "an image that does not boot", from: v1, do: updating(func(a *album) string { return hostOf(a.panics, "") }, true, true),
		want: operation.Undone, kind: errkind.Unhealthy, named: "AbUpdateRebootCheck", runs: slot.A, version: "v1"},
	{name: "an update that is not healthy", from: v1, do: updating(func(a *album) string { return hostOf(a.sick, failing) }, true, true),
		want: operation.Undone, kind: errkind.Unhealthy, named: "HealthChecksFailed", runs: slot.A, version: "v1"},
	{name: "a Trident that does not start", from: v1, do: updating(func(a *album) string { return hostOf(a.broken, "") }, true, true),
		want: operation.Undone, kind: errkind.Unhealthy, named: "AbUpdateRebootCheck", runs: slot.A, version: "v1"},
	{name: "an image that is not what it says", from: v1, do: updating(func(a *album) string { return hostOf(a.corrupt, "") }, true, true),
		want: operation.Undone, kind: errkind.Corrupt, named: "CorruptOsImage", runs: slot.A, version: "v1"},
	{name: "cancelled", from: v1, do: updating(hangs, true, true), cancelAt: "post-configure", want: operation.Undone, kind: errkind.Cancelled, runs: slot.A, version: "v1"},
	{name: "rollback", from: v2, do: rollingBack, want: operation.Done, runs: slot.A, version: "v1"},
	{name: "install with SELinux", do: installing(func(a *album) string { return selinuxOf(a, withSetfiles) }, true, true), want: operation.Done, runs: slot.A, version: "v7"},
	{name: "install, and set up what installs", do: installing(func(a *album) string { return hostOf(a.v1, managed) }, true, true),
		want: operation.Done, runs: slot.A, version: "v1", network: "network:\n  ethernets:\n    eth0:\n      dhcp4: true\n  version: 2\n"},
	{name: "an installation of an image that is not what it says, and a management OS", do: installing(func(a *album) string { return hostOf(a.corrupt, managed) }, true, true),
		want: operation.Undone, kind: errkind.Corrupt, named: "CorruptOsImage", network: liveNetwork, cut: everywhere},
}

// However an installation or an update goes and wherever the power is cut, the
// machine boots the one system or the other, all of it, and its status tells the
// truth about which; and it boots the same again.
func TestAnOSSurvivesPowerCuts(t *testing.T) {
	if cases := survivePowerCuts(t, newAlbum(t), osScenarios); cases > 0 && cases < 200 {
		t.Errorf("%d cases only", cases)
	}
}

// survivePowerCuts plays scenarios with the images of a. It returns the number of cases with
// a power cut, or 0 if the tests of some scenarios were not chosen.
func survivePowerCuts(t *testing.T, a *album, scenarios []osScenario) (cases int) {
	t.Helper()
	var installed, updated *osWorld
	lives := []string{tempDir(t), tempDir(t)}
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(v1, true, true))
		w.rest()
		installed = w.copied(t, lives[0])
		w.powerOn()
		w.must(updating(v2, true, true))
		w.rest()
		updated = w.copied(t, lives[1])
	})
	played := 0
	for n, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			start := func(t *testing.T) *osWorld {
				switch {
				case sc.from == nil:
					return newOSWorld(t, a)
				case sc.from(a) == v2(a):
					return updated.copied(t, tempDir(t))
				}
				return installed.copied(t, tempDir(t))
			}
			played++
			cases += sc.playWithCuts(t, n, start)
		})
	}
	t.Logf("%d cases", cases)
	if played < len(scenarios) {
		return 0
	}
	return cases
}

// playWithCuts plays the scenario with number n without a cut, and then from the same start
// with a cut before and after each change, as sc.cut says. It returns the number of cases,
// with those that do not run in this turn.
func (sc osScenario) playWithCuts(t *testing.T, n int, start func(*testing.T) *osWorld) (cases int) {
	t.Helper()
	touches := 0
	var rests map[int]bool
	t.Run("no cut", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := start(t)
			sc.play(w, 0, false)
			touches, rests = w.Touches, w.Rests()
			t.Logf("touches: %s", strings.Join(w.Trace, ", "))
		})
	})
	for cut := 1; cut <= touches; cut++ {
		for _, after := range []bool{false, true} {
			if sc.cut == onOneSide && after != (cut%2 == 0) || sc.cut == hereAndThere && (cut+n)%12 != 0 {
				continue
			}
			if sc.cut == everywhere && !after && rests[cut] {
				continue // the same as after the change before
			}
			cases++
			if !hosttest.InTurn(n + cases) {
				continue
			}
			t.Run(fmt.Sprintf("cut at %d, after=%v", cut, after), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { sc.play(start(t), cut, after) })
			})
		}
	}
	return cases
}

// must does something with nothing in the way.
func (w *osWorld) must(do doing) {
	w.t.Helper()
	kind, start := do(w)
	if op := w.run(kind, start, ""); op.Phase != operation.Done {
		w.t.Fatalf("%s: %+v\ntouches: %v", op.Phase, op.Failure, w.Trace)
	}
}

// rest switches the machine off in order.
func (w *osWorld) rest() {
	w.stopDaemon()
	w.stopSystem()
}

// run begins an operation, again if a power cut has kept it from being begun, and
// has the machine do what it does until it has ended.
func (w *osWorld) run(kind string, start func(*Service) (string, error), cancelAt string) *operation.Operation {
	w.t.Helper()
	var op *operation.Operation
	for op == nil || op.Kind != kind {
		_, err := start(w.daemon.service)
		if err != nil && !w.daemon.dead {
			w.t.Fatalf("%v\ntouches: %v", err, w.Trace)
		}
		op = w.settled(cancelAt)
	}
	return op
}

func (w *osWorld) settled(cancelAt string) *operation.Operation {
	ctx := context.Background()
	for range 2000 {
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		w.Mu.Lock()
		on, reboots := w.on, w.reboots
		w.Mu.Unlock()
		if !on {
			w.stopDaemon()
			w.powerOn()
			continue
		}
		if reboots {
			w.rest()
			w.powerOn()
			continue
		}
		ops, err := w.daemon.runner.List(ctx, 1, false)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(ops) == 0 {
			return nil
		}
		if cancelAt != "" && ops[0].Step == cancelAt && ops[0].Phase == operation.Doing {
			if _, err := w.daemon.runner.Cancel(ctx, ops[0].ID); err == nil {
				cancelAt = ""
			}
		}
		if ops[0].Phase.Settled() {
			return &ops[0]
		}
	}
	ops, _ := w.daemon.runner.List(ctx, 1, false)
	w.t.Fatalf("never settled: %+v\ntouches: %v", ops, w.Trace)
	return nil
}

func (sc osScenario) play(w *osWorld, cutAt int, after bool) {
	t := w.t
	w.powerOn()
	was := w.status()
	w.Prepare(cutAt, after)
	kind, start := sc.do(w)
	op := w.run(kind, start, sc.cancelAt)
	if sc.then != nil {
		if op.Phase != operation.Done {
			t.Fatalf("staged: %+v\ntouches: %v", op, w.Trace)
		}
		if sc.from == nil { // the live system forgets nothing
			w.rest()
			w.powerOn()
		}
		kind, start = sc.then(w)
		op = w.run(kind, start, sc.cancelAt)
	}
	sc.check(w, op, was)
	w.rest()
	w.powerOn() // by default it boots the same
	if (w.slot != sc.runs) != (w.cutShort(op) && sc.want == operation.Done) {
		t.Errorf("the next boot is of %v, want %v\ntouches: %v", w.slot, sc.runs, w.Trace)
	}
	w.rest()
}

// cutShort says that the power went while a system was on trial, or while one that had
// proved well was made the default: it has to prove itself anew then.
func (w *osWorld) cutShort(op *operation.Operation) bool {
	return w.CutAt > 0 && op.Phase == operation.Undone && slices.Contains([]string{"unlock", "health", "settle"}, op.Reached) && strings.HasSuffix(op.Failure.Name, "RebootCheck")
}

func (w *osWorld) status() hoststate.Status {
	w.t.Helper()
	st, err := w.daemon.service.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// check is what has to be true at the end.
func (sc osScenario) check(w *osWorld, op *operation.Operation, was hoststate.Status) {
	t := w.t
	t.Helper()
	tell := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s\n%s: %+v\ntouches: %v", fmt.Sprintf(format, args...), op.Phase, op.Failure, w.Trace)
	}
	if w.cutShort(op) && sc.want == operation.Done { // before it was confirmed
		sc.want, sc.kind, sc.named = operation.Undone, errkind.Unhealthy, op.Failure.Name
		sc.runs, sc.version = sc.runs.Other(), map[string]string{"v1": "v2", "v2": "v1", "v5": "v2"}[sc.version]
	}
	if op.Phase != sc.want {
		tell("want %s", sc.want)
		return
	}
	if f := op.Failure; f != nil && (f.Kind != sc.kind || f.Name != sc.named) && !w.cutShort(op) {
		tell("failed as %s, %s", f.Kind, f.Name)
	}
	if got := strings.TrimSpace(w.text("usr/share/version")); w.slot != sc.runs || got != sc.version {
		tell("%v runs, of version %s", w.slot, got)
	}
	st := w.status()
	switch {
	case op.Phase == operation.Done:
		if st.Phase != (hoststate.Settled{}) || st.LastError != nil || st.ABActiveVolume != hoststate.Volume(sc.runs.String()) {
			tell("the status is %+v", st)
		}
		c, err := hostconfig.ParseRecorded([]byte(st.Spec))
		if err != nil || !strings.Contains(string(c.Spec().Image.URL), sc.version) {
			tell("the configuration is of %v, %v", c.Spec().Image.URL, err)
		}
		if got := w.text("etc/of.conf"); got != "of "+sc.version {
			tell("/etc/of.conf has %q", got)
		}
		if fstab := w.text("etc/fstab"); !strings.Contains(fstab, "/var/lib/trident") {
			tell("fstab is %q", fstab)
		}
	case was.Phase == hoststate.Fresh{}:
		if st.Phase != (hoststate.Fresh{}) || st.LastError == nil {
			tell("the status is %+v", st)
		}
	default:
		if st.Phase != (hoststate.Settled{}) || st.Spec != was.Spec || st.ABActiveVolume != was.ABActiveVolume {
			tell("the status is %+v, was %+v", st, was)
		}
		if st.LastError == nil || !tellsOf(st.LastError, *op) {
			tell("lastError is %+v", st.LastError)
		}
	}
	if sc.network != "" {
		sc.checkLive(w, tell)
	}
	if w.has("etc/systemd/system/trident-trial.timer") {
		tell("the guard is still there")
	}
	for _, m := range w.mounts {
		if strings.Contains(m.at, "run/trident/newroot") || strings.Contains(m.at, "run/trident/esp") {
			tell("still mounted: %v", m)
		}
	}
}

// checkLive looks at the system that has installed. Its users stay, as those that were
// there do.
func (sc osScenario) checkLive(w *osWorld, tell func(string, ...any)) {
	live := func(name string) string {
		data, err := os.ReadFile(filepath.Join(w.live, name))
		if err != nil {
			tell("%v", err)
		}
		return string(data)
	}
	if got := live(osconfig.Netplan); got != sc.network {
		tell("the file of the live system's network is %q", got)
	}
	if w.slot == 0 && live("run/network") != sc.network {
		tell("the live system's network is %q", live("run/network"))
	}
	if got := live("etc/ssh/sshd_config.d/global_user.conf"); got != "PermitRootLogin prohibit-password\n" {
		tell("who may log in to the live system: %q", got)
	}
	if _, err := os.Stat(filepath.Join(w.live, osconfig.CloudInit)); (err == nil) != (sc.want == operation.Done) {
		tell("cloud-init may set up the live system's network: %v", err)
	}
	if _, err := os.Stat(filepath.Join(w.live, "var/lib/trident/management-os")); (err == nil) != (sc.want == operation.Done) {
		tell("copies of the live system's network: %v", err)
	}
}
