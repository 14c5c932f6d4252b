package systemdtest

import (
	"context"
	"slices"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

func (h Host) jobs(t *testing.T) systemd.Jobs {
	t.Helper()
	jobs, ok := h.Manager.(systemd.Jobs)
	if !ok {
		t.Fatalf("%T does not have the methods of systemd.Jobs", h.Manager)
	}
	return jobs
}

func runs(t *testing.T, ctx context.Context, h Host) {
	jobs := h.jobs(t)
	plain := h.define(t, ctx, Definition{Name: "trident-suite-plain.service"})
	ok(t, jobs.Run(ctx, systemd.StartJob, plain))
	first := h.unit(t, ctx, plain)
	if first.Active != "active" || first.MainPID == 0 {
		t.Fatalf("started: %+v", first)
	}
	ok(t, jobs.Run(ctx, systemd.StartJob, plain))
	if u := h.unit(t, ctx, plain); u != first {
		t.Errorf("started twice: %+v, before %+v", u, first)
	}
	ok(t, jobs.Run(ctx, systemd.RestartJob, plain))
	if u := h.unit(t, ctx, plain); u.Invocation == first.Invocation || u.Active != "active" {
		t.Errorf("restarted: %+v, before %+v", u, first)
	}
	ok(t, jobs.Run(ctx, systemd.StopJob, plain))
	if u := h.unit(t, ctx, plain); u.Active != "inactive" {
		t.Errorf("stopped: %+v", u)
	}
	const missing = "trident-suite-missing.service"
	for _, job := range []systemd.Job{systemd.StartJob, systemd.StopJob, systemd.RestartJob} {
		wantKind(t, jobs.Run(ctx, job, missing), errkind.NotFound, missing)
	}
	bad := h.define(t, ctx, Definition{Name: "trident-suite-failing.service", Start: "failed", Result: "exit-code"})
	wantKind(t, jobs.Run(ctx, systemd.StartJob, bad), errkind.Internal, "start "+bad+": job result is failed (unit result is exit-code)")
}

func lists(t *testing.T, ctx context.Context, h Host) {
	jobs := h.jobs(t)
	a := h.define(t, ctx, Definition{Name: "trident-suite-a.service"})
	b := h.define(t, ctx, Definition{Name: "trident-suite-b.service"})
	ok(t, jobs.Run(ctx, systemd.StartJob, b))
	ok(t, jobs.Run(ctx, systemd.StartJob, a))
	names := func(patterns, states []string) []string {
		list, err := jobs.List(ctx, patterns, states)
		ok(t, err)
		var out []string
		for _, u := range list {
			if u.Load != "loaded" || u.Active == "" || u.Sub == "" {
				t.Errorf("%+v", u)
			}
			out = append(out, u.Name)
		}
		return out
	}
	if got := names([]string{"trident-suite-?.service"}, nil); !slices.Equal(got, []string{a, b}) {
		t.Errorf("by pattern: %q", got)
	}
	if got := names([]string{"trident-suite-?.service"}, []string{"failed"}); len(got) > 0 {
		t.Errorf("failed: %q", got)
	}
	if got := names([]string{"trident-suite-b.*"}, []string{"running"}); !slices.Equal(got, []string{b}) {
		t.Errorf("running: %q", got)
	}
}

func details(t *testing.T, ctx context.Context, h Host) {
	jobs := h.jobs(t)
	plain := h.define(t, ctx, Definition{Name: "trident-suite-plain.service"})
	ok(t, jobs.Run(ctx, systemd.StartJob, plain))
	d, err := jobs.Details(ctx, plain)
	ok(t, err)
	if d.Name != plain || d.Active != "active" || d.State.MainPID == 0 || !slices.Contains(d.Names, plain) {
		t.Errorf("%+v", d)
	}
	_, err = jobs.Details(ctx, "trident-suite-missing.service")
	wantKind(t, err, errkind.NotFound, "trident-suite-missing.service")
}

func failures(t *testing.T, ctx context.Context, h Host) {
	jobs := h.jobs(t)
	bad := h.define(t, ctx, Definition{Name: "trident-suite-failing.service", Start: "failed", Result: "exit-code"})
	watch, end := context.WithCancel(ctx)
	defer end()
	ready, failed, ended := make(chan struct{}), make(chan string, 100), make(chan error, 1)
	go func() {
		ended <- jobs.Failures(watch, func() { close(ready) }, func(unit string) { failed <- unit })
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	_ = jobs.Run(ctx, systemd.StartJob, bad)
	for unit := ""; unit != bad; {
		select {
		case unit = <-failed:
		case <-ctx.Done():
			t.Fatal("nobody announces the failure")
		}
	}
	end()
	wantKind(t, <-ended, errkind.Cancelled)
}
