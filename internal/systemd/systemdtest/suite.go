package systemdtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// Host is a systemd to run the suite on.
type Host struct {
	systemd.Manager
	// Define writes the unit file, see [Definition.File]. It need not reload.
	Define func(testing.TB, Definition)
}

// File returns d as the text of a unit file, which is empty for a masked unit.
func (d Definition) File() string {
	unit, service := []string{"[Unit]"}, []string{"[Service]"}
	exec := "/bin/sleep infinity"
	switch {
	case d.Masked:
		return ""
	case d.Start == "failed":
		service, exec = append(service, "Type=oneshot"), "/bin/false"
	case d.Start == "timeout":
		unit = append(unit, "JobTimeoutSec=300ms")
		service = append(service, "Type=oneshot", "TimeoutStartSec=infinity")
	case d.Hang:
		service = append(service, "Type=oneshot", "TimeoutStartSec=infinity")
	case d.Oneshot:
		service, exec = append(service, "Type=oneshot", "RemainAfterExit=yes"), "/bin/true"
	default:
		service = append(service, "Type=exec")
	}
	if d.Reloads {
		service = append(service, "ExecReload=/bin/true")
	}
	return strings.Join(append(append(unit, service...), "ExecStart="+exec, ""), "\n")
}

// Suite tests what every [systemd.Manager] does. start returns a host for one test.
// The units of the suite are called trident-suite-*.
func Suite(t *testing.T, start func(*testing.T) Host) {
	for name, test := range map[string]func(*testing.T, context.Context, Host){
		"a unit that is not there is not found, and there is nothing to stop":            missing,
		"reload or restart starts a unit, keeps it when it can reload, else restarts it": reloadOrRestart,
		"a job that fails names the unit and the results":                                failing,
		"a job that takes too long is a timeout":                                         jobTimeout,
		"a wait ends with its context":                                                   waitEnds,
		"a masked unit is a precondition":                                                masked,
		"a restart is only queued":                                                       restart,
		"a unit is enabled once or twice, but not one that is missing or masked":         enable,
		"systemd has a version":                                                          versions,
		"a changed unit file counts after reload":                                        reload,
		"a transient unit runs once and is forgotten":                                    transient,
		"a transient unit whose program is not there fails and leaves its name free":     unstartable,
		"a transient unit ends after its timeout":                                        transientTimeout,
		"a transient unit that fails is started again without end, until it is stopped":  transientRestart,
		"a job of each kind is awaited":                                                  runs,
		"units are listed by pattern and state":                                          lists,
		"a unit has details":                                                             details,
		"a unit that has failed is so until that is reset":                               resetFailed,
		"a unit that fails is announced":                                                 failures,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			test(t, ctx, start(t))
		})
	}
}

func (h Host) define(t *testing.T, ctx context.Context, d Definition) string {
	t.Helper()
	h.Define(t, d)
	ok(t, h.Reload(ctx))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		if err := h.Stop(ctx, d.Name); err != nil && !d.Masked {
			t.Error(err)
		}
	})
	return d.Name
}

func (h Host) unit(t *testing.T, ctx context.Context, name string) systemd.Unit {
	t.Helper()
	u, err := h.Unit(ctx, name)
	ok(t, err)
	return u
}

// waitUntil polls until so returns true, for changes that systemd does not announce.
func waitUntil(t *testing.T, ctx context.Context, what string, so func() bool) {
	t.Helper()
	for tick := time.NewTicker(10 * time.Millisecond); !so(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not so in time: %s", what)
		}
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind errkind.Kind, words ...string) {
	t.Helper()
	if err == nil || errkind.Of(err) != kind {
		t.Fatalf("got %v (kind %s), want kind %s", err, errkind.Of(err), kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q lacks %q", err, word)
		}
	}
}

func missing(t *testing.T, ctx context.Context, h Host) {
	const unit = "trident-suite-missing.service"
	_, err := h.Unit(ctx, unit)
	wantKind(t, err, errkind.NotFound, unit)
	wantKind(t, h.Restart(ctx, unit), errkind.NotFound, unit)
	wantKind(t, h.ReloadOrRestart(ctx, unit), errkind.NotFound, unit)
	ok(t, h.Stop(ctx, unit))
}

func reloadOrRestart(t *testing.T, ctx context.Context, h Host) {
	plain := h.define(t, ctx, Definition{Name: "trident-suite-plain.service"})
	if u := h.unit(t, ctx, plain); u.Active != "inactive" || u.MainPID != 0 {
		t.Fatalf("at first: %+v", u)
	}
	ok(t, h.ReloadOrRestart(ctx, plain))
	first := h.unit(t, ctx, plain)
	if first.Active != "active" || first.Sub != "running" || first.Result != "success" || first.MainPID == 0 || len(first.Invocation) != 32 {
		t.Fatalf("started: %+v", first)
	}
	ok(t, h.ReloadOrRestart(ctx, plain))
	if u := h.unit(t, ctx, plain); u.Invocation == first.Invocation || u.MainPID == first.MainPID {
		t.Errorf("not restarted: %+v, before %+v", u, first)
	}

	reloads := h.define(t, ctx, Definition{Name: "trident-suite-reloads.service", Reloads: true})
	ok(t, h.ReloadOrRestart(ctx, reloads))
	first = h.unit(t, ctx, reloads)
	ok(t, h.ReloadOrRestart(ctx, reloads))
	if u := h.unit(t, ctx, reloads); u != first {
		t.Errorf("not reloaded: %+v, before %+v", u, first)
	}

	oneshot := h.define(t, ctx, Definition{Name: "trident-suite-oneshot.service", Oneshot: true})
	ok(t, h.ReloadOrRestart(ctx, oneshot))
	if u := h.unit(t, ctx, oneshot); u.Active != "active" || u.Sub != "exited" || u.MainPID != 0 {
		t.Errorf("oneshot: %+v", u)
	}
	ok(t, h.Stop(ctx, oneshot))
	if u := h.unit(t, ctx, oneshot); u.Active != "inactive" || u.Sub != "dead" {
		t.Errorf("stopped: %+v", u)
	}
}

func failing(t *testing.T, ctx context.Context, h Host) {
	unit := h.define(t, ctx, Definition{Name: "trident-suite-failing.service", Start: "failed", Result: "exit-code"})
	err := h.ReloadOrRestart(ctx, unit)
	wantKind(t, err, errkind.Internal, "reload or restart "+unit+": job result is failed (unit result is exit-code)")
	if u := h.unit(t, ctx, unit); u.Active != "failed" || u.Result != "exit-code" {
		t.Errorf("after the failure: %+v", u)
	}
}

func resetFailed(t *testing.T, ctx context.Context, h Host) {
	mounts, ok := h.Manager.(systemd.Mounts)
	if !ok {
		t.Fatal("the host does not mount")
	}
	unit := h.define(t, ctx, Definition{Name: "trident-suite-reset.service", Start: "failed", Result: "exit-code"})
	wantKind(t, h.ReloadOrRestart(ctx, unit), errkind.Internal, unit)
	for range 2 {
		if err := mounts.ResetFailed(ctx, unit); err != nil {
			t.Error(err)
		}
		if u := h.unit(t, ctx, unit); u.Active != "inactive" {
			t.Errorf("after the reset: %+v", u)
		}
	}
	if err := mounts.ResetFailed(ctx, "trident-suite-none.service"); err != nil {
		t.Error(err)
	}
}

func jobTimeout(t *testing.T, ctx context.Context, h Host) {
	unit := h.define(t, ctx, Definition{Name: "trident-suite-timeout.service", Start: "timeout"})
	wantKind(t, h.ReloadOrRestart(ctx, unit), errkind.Timeout, unit, "timeout")
	if u := h.unit(t, ctx, unit); u.Active != "activating" {
		t.Errorf("after the timeout: %+v", u)
	}
}

func waitEnds(t *testing.T, ctx context.Context, h Host) {
	unit := h.define(t, ctx, Definition{Name: "trident-suite-hangs.service", Hang: true})
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	wantKind(t, h.ReloadOrRestart(short, unit), errkind.Timeout, unit)

	over, cancel := context.WithCancel(ctx)
	cancel()
	wantKind(t, h.ReloadOrRestart(over, unit), errkind.Cancelled, unit)
	if u := h.unit(t, ctx, unit); u.Active != "activating" {
		t.Errorf("the job did not go on: %+v", u)
	}
}

func masked(t *testing.T, ctx context.Context, h Host) {
	unit := h.define(t, ctx, Definition{Name: "trident-suite-masked.service", Masked: true})
	wantKind(t, h.ReloadOrRestart(ctx, unit), errkind.Precondition, unit)
	wantKind(t, h.Restart(ctx, unit), errkind.Precondition, unit)
}

func restart(t *testing.T, ctx context.Context, h Host) {
	hangs := h.define(t, ctx, Definition{Name: "trident-suite-hangs.service", Hang: true})
	ok(t, h.Restart(ctx, hangs))
	waitUntil(t, ctx, "activating", func() bool { return h.unit(t, ctx, hangs).Active == "activating" })

	plain := h.define(t, ctx, Definition{Name: "trident-suite-plain.service"})
	ok(t, h.ReloadOrRestart(ctx, plain))
	first := h.unit(t, ctx, plain)
	ok(t, h.Restart(ctx, plain))
	waitUntil(t, ctx, "restarted", func() bool {
		u := h.unit(t, ctx, plain)
		return u.Active == "active" && u.MainPID != first.MainPID && u.Invocation != first.Invocation
	})
}

func enable(t *testing.T, ctx context.Context, h Host) {
	plain := h.define(t, ctx, Definition{Name: "trident-suite-plain.service"})
	ok(t, h.Enable(ctx, plain))
	ok(t, h.Enable(ctx, plain))
	if u := h.unit(t, ctx, plain); u.Active != "inactive" {
		t.Errorf("enabling started it: %+v", u)
	}
	const missing = "trident-suite-missing.service"
	wantKind(t, h.Enable(ctx, missing), errkind.NotFound, missing)
	masked := h.define(t, ctx, Definition{Name: "trident-suite-masked.service", Masked: true})
	wantKind(t, h.Enable(ctx, masked), errkind.Precondition, masked)
}

func versions(t *testing.T, ctx context.Context, h Host) {
	v, err := h.Version(ctx)
	ok(t, err)
	if v < 200 || v > 2000 {
		t.Errorf("version %d", v)
	}
}

func reload(t *testing.T, ctx context.Context, h Host) {
	d := Definition{Name: "trident-suite-changes.service"}
	unit := h.define(t, ctx, d)
	ok(t, h.ReloadOrRestart(ctx, unit))
	first := h.unit(t, ctx, unit)
	d.Reloads = true
	h.Define(t, d)
	ok(t, h.ReloadOrRestart(ctx, unit))
	second := h.unit(t, ctx, unit)
	if second.Invocation == first.Invocation {
		t.Error("the new file counted before reload")
	}
	ok(t, h.Reload(ctx))
	ok(t, h.ReloadOrRestart(ctx, unit))
	if h.unit(t, ctx, unit).Invocation != second.Invocation {
		t.Error("the new file did not count after reload")
	}
}

func transient(t *testing.T, ctx context.Context, h Host) {
	const unit = "trident-suite-transient.service"
	sleep := systemd.Transient{Description: "Suite", Exec: []string{"/bin/sleep", "infinity"}, Env: []string{"A=1"}}
	wantKind(t, h.StartTransient(ctx, unit, systemd.Transient{Exec: []string{"sleep"}}), errkind.Invalid, unit)
	for range 2 {
		ok(t, h.StartTransient(ctx, unit, sleep))
		if u := h.unit(t, ctx, unit); u.Active != "active" || u.Sub != "running" || u.MainPID == 0 {
			t.Fatalf("started: %+v", u)
		}
		wantKind(t, h.StartTransient(ctx, unit, sleep), errkind.Exists, unit)
		ok(t, h.Stop(ctx, unit))
		waitUntil(t, ctx, "forgotten", func() bool { return isGone(ctx, h, unit) })
	}
}

func isGone(ctx context.Context, h Host, unit string) bool {
	_, err := h.Unit(ctx, unit)
	return errkind.Of(err) == errkind.NotFound
}

func unstartable(t *testing.T, ctx context.Context, h Host) {
	const unit = "trident-suite-unstartable.service"
	for range 2 {
		err := h.StartTransient(ctx, unit, systemd.Transient{Exec: []string{"/nonexistent/program"}})
		wantKind(t, err, errkind.Internal, unit, "job result is failed")
		waitUntil(t, ctx, "forgotten", func() bool { return isGone(ctx, h, unit) })
	}
}

func transientTimeout(t *testing.T, ctx context.Context, h Host) {
	const unit = "trident-suite-short.service"
	ok(t, h.StartTransient(ctx, unit, systemd.Transient{Exec: []string{"/bin/sleep", "infinity"}, Timeout: 200 * time.Millisecond}))
	waitUntil(t, ctx, "forgotten", func() bool { return isGone(ctx, h, unit) })
}

func transientRestart(t *testing.T, ctx context.Context, h Host) {
	const unit = "trident-suite-restarts.service"
	fails := systemd.Transient{Exec: []string{"/bin/false"}, Restart: 10 * time.Millisecond}
	ok(t, h.StartTransient(ctx, unit, fails))
	// More often than systemd's limit of starts by default would let it.
	waitUntil(t, ctx, "started again 8 times", func() bool { return h.unit(t, ctx, unit).Restarts >= 8 })
	wantKind(t, h.StartTransient(ctx, unit, fails), errkind.Exists, unit)
	ok(t, h.Stop(ctx, unit))
	waitUntil(t, ctx, "forgotten", func() bool { return isGone(ctx, h, unit) })

	fails.Restart = 0
	ok(t, h.StartTransient(ctx, unit, fails))
	waitUntil(t, ctx, "forgotten", func() bool { return isGone(ctx, h, unit) })
}
