package servicing

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
)

// before is what the host has when a scenario begins.
func before(g *gallery) string {
	return fmt.Sprintf(`
os:
  sysexts: [{url: %q, sha384: %s}]
  confexts: [{url: %q, sha384: %s}]
  netplan: {version: 2, ethernets: {eth0: {dhcp4: true}}}
  additionalFiles:
  - {destination: /etc/app.conf, content: one}
  - {destination: /etc/goes.conf, content: going, permissions: "0600"}
`, g.app1.url(), g.app1.sha, g.settings.url(), g.settings.sha)
}

// wants is what it shall have then: everything changes.
func wants(g *gallery, app picture) string {
	return fmt.Sprintf(`
os:
  sysexts:
  - {url: %q, sha384: %s}
  - {url: %q, sha384: %s}
  confexts: [{url: %q, sha384: %s}]
  netplan: {version: 2, ethernets: {eth1: {dhcp4: true}}}
  additionalFiles:
  - {destination: /etc/app.conf, content: two, permissions: "0640"}
  - {destination: /etc/new/folder/comes.conf, source: /srv/source}
scripts:
  preServicing: [{name: pre, runOn: [runtime-update], content: pre}]
  postConfigure: [{name: post, runOn: [runtime-update], content: post}]
health:
  checks:
  - {name: script, runOn: [runtime-update], content: check, environmentVariables: {SECRET: "it's"}}
  - {name: unit, runOn: [all], systemdServices: [app]}
`, app.url(), app.sha, g.tool.url(), g.tool.sha, g.more.url(), g.more.sha)
}

// A scenario is a servicing and where it has to lead.
type scenario struct {
	name     string
	config   func(*gallery) string
	apart    bool   // staged and finalized by different daemons
	back     bool   // rolled back by command, from config
	cancelAt string // a step to cancel at
	want     operation.Phase
	kind     errkind.Kind // of the failure
}

var scenarios = []scenario{
	{name: "success", config: func(g *gallery) string { return wants(g, g.app2) }, want: operation.Done},
	{name: "health check fails", config: func(g *gallery) string { return wants(g, g.sick) }, want: operation.Undone, kind: errkind.Unhealthy},
	{name: "refresh refuses", config: func(g *gallery) string { return wants(g, g.broken) }, want: operation.Undone, kind: errkind.Unhealthy},
	{name: "cancelled", config: func(g *gallery) string { return wants(g, g.app2) }, cancelAt: "health", want: operation.Undone, kind: errkind.Cancelled},
	{name: "staged, then finalized", config: func(g *gallery) string { return wants(g, g.app2) }, apart: true, want: operation.Done},
	{name: "rolled back", config: func(g *gallery) string { return wants(g, g.app2) }, back: true, want: operation.Done},
}

// However a servicing goes and wherever the power is cut, forwards or while it is
// taken back, the host ends with the one configuration or the other wholly in
// place, and its status tells the truth about which.
func TestAServicingSurvivesPowerCuts(t *testing.T) {
	g := newGallery(t)
	cases, played := 0, 0
	var first []string // the touches of the first scenario
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			touches, shared := 0, 0
			var rests map[int]bool
			played++
			start := beginning{disk: tempDir(t), ends: &endings{of: map[string]map[string]string{}}}
			synctest.Test(t, func(t *testing.T) { sc.prepare(t, g, &start) })
			t.Run("no cut", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := sc.play(t, g, start, 0, false)
					touches, rests = w.Touches, w.Rests()
					if first == nil {
						first = w.Trace
					}
					for shared < len(first) && shared < touches && first[shared] == w.Trace[shared] {
						shared++
					}
					t.Logf("touches: %s", strings.Join(w.Trace, ", "))
				})
			})
			for n := 1; n <= touches; n++ {
				for _, after := range []bool{false, true} {
					// Of what is as in the first scenario some is enough.
					if played > 1 && n < shared && (n%8 != 0 || (n%16 == 0) == after) {
						continue
					}
					if (played == 1 || n > shared) && !after && rests[n] {
						continue // the same as after the change before
					}
					cases++
					if !hosttest.InTurn(cases) {
						continue
					}
					t.Run(fmt.Sprintf("cut at %d, after=%v", n, after), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) { sc.play(t, g, start, n, after) })
					})
				}
			}
		})
	}
	if cases < 150 && played == len(scenarios) {
		t.Errorf("%d cases only", cases)
	}
	t.Logf("%d cases", cases)
}

// beginning is the host that a scenario begins with.
type beginning struct {
	disk string
	ends *endings
}

// endings are what configurations lead to, worked out once.
type endings struct {
	mu sync.Mutex
	of map[string]map[string]string
}

func (sc scenario) prepare(t *testing.T, g *gallery, start *beginning) {
	w := newWorld(t, g)
	w.powerOn()
	w.set(before(g))
	if sc.back {
		w.set(sc.config(g))
	}
	w.stopDaemon()
	copyDisk(t, w.root, start.disk, nil)
}

// play runs one scenario to its end and checks the host.
func (sc scenario) play(t *testing.T, g *gallery, start beginning, cutAt int, after bool) *world {
	w := &world{t: t, gallery: g, root: tempDir(t), ends: start.ends}
	copyDisk(t, start.disk, w.root, nil)
	w.powerOn()
	old := w.state()
	was, err := w.daemon.service.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	w.Prepare(cutAt, after)
	op := w.begin(sc)
	if op == nil { // cut before it was begun
		w.check(was, old, nil)
	} else {
		if op.Phase != sc.want && !(sc.cancelAt != "" && op.Phase == operation.Done) {
			t.Errorf("%s: %+v, want %s", op.Phase, op.Failure, sc.want)
		}
		if op.Failure != nil && op.Failure.Kind != sc.kind {
			t.Errorf("failed with %+v, want the kind %s", op.Failure, sc.kind)
		}
		w.check(was, old, op)
	}
	w.stopDaemon()
	return w
}

// begin does what the scenario is about, and again what a power cut has kept from
// being begun; it returns the last operation.
func (w *world) begin(sc scenario) *operation.Operation {
	ctx := context.Background()
	var op *operation.Operation
	do := func(kind string, start func(*Service) (string, error)) {
		for op == nil || op.Kind != kind {
			id, err := start(w.daemon.service)
			if err != nil && !w.daemon.dead {
				w.t.Fatal(err)
			}
			op = w.settle(id, sc.cancelAt)
		}
	}
	config := w.parse(sc.config(w.gallery))
	switch {
	case sc.back:
		do("runtime-rollback", func(s *Service) (string, error) { return s.Rollback(ctx, RollbackRequest{Stage: true, Finalize: true}) })
	case sc.apart:
		do("runtime-update-stage", func(s *Service) (string, error) { return s.Update(ctx, UpdateRequest{Config: config, Stage: true}) })
		if st, err := w.daemon.service.Status(ctx); err != nil || st.Phase != hoststate.StagedRuntimeUpdate {
			w.t.Errorf("staged: %+v, %v", st, err)
		}
		w.stopDaemon()
		w.powerOn()
		do("runtime-update-finalize", func(s *Service) (string, error) { return s.Finalize(ctx, false) })
	default:
		do("runtime-update", func(s *Service) (string, error) {
			return s.Update(ctx, UpdateRequest{Config: config, Stage: true, Finalize: true})
		})
	}
	return op
}

// settle powers on again after a cut, until nothing more happens by itself.
func (w *world) settle(id, cancelAt string) *operation.Operation {
	ctx := context.Background()
	for range 600 {
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if !w.on {
			w.stopDaemon()
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

// check is what has to be true of the host at the end.
func (w *world) check(was hoststate.Status, old map[string]string, op *operation.Operation) {
	w.t.Helper()
	w.checkHost(was, old, op)
	left, err := filepath.Glob(filepath.Join(w.root, change.Dir, "*"))
	if err != nil || op != nil && len(left) > 0 {
		w.t.Errorf("left over: %v, %v", left, err)
	}
	w.checkStore(w.status())
}

// checkHost is check without the files that Trident needs for an operation only.
func (w *world) checkHost(was hoststate.Status, old map[string]string, op *operation.Operation) {
	t := w.t
	t.Helper()
	status, got := w.status(), w.state()
	if status.Phase != (hoststate.Settled{}) || status.SpecOld != "" {
		t.Errorf("the status is %+v", status)
	}
	if op != nil && op.Phase == operation.Done {
		if status.Spec == was.Spec || status.LastError != nil {
			t.Errorf("the status is of the old configuration, or has an error: %+v", status)
		}
		want := w.fresh(status.Spec)
		for name, what := range got { // one that a configuration before has made
			if what == "folder" && want[name] == "" {
				delete(got, name)
			}
		}
		if diff := diffStates(got, want); diff != "" {
			t.Errorf("not what was wanted:\n%s\ntouches: %v", diff, w.Trace)
		}
	} else {
		if status.Spec != was.Spec {
			t.Errorf("the status is of the new configuration")
		}
		if op != nil && (status.LastError == nil || !tellsOf(status.LastError, *op)) {
			t.Errorf("lastError is %+v, want %+v", status.LastError, op.Failure)
		}
		if !maps.Equal(got, old) {
			t.Errorf("not what it was:\n%s\ntouches: %v", diffStates(got, old), w.Trace)
		}
	}
}

// fresh is what a host is with a recorded configuration that never had another.
func (w *world) fresh(spec string) map[string]string {
	w.ends.mu.Lock()
	defer w.ends.mu.Unlock()
	if state, ok := w.ends.of[spec]; ok {
		return state
	}
	c, err := hostconfig.ParseRecorded([]byte(spec))
	if err != nil {
		w.t.Fatal(err)
	}
	other := newWorld(w.t, w.gallery)
	other.powerOn()
	defer other.stopDaemon()
	w.ends.of[spec] = other.set(string(c.YAML()))
	return w.ends.of[spec]
}

// checkStore wants the images of the configuration, and those of the way back, to
// be in the store, and no others.
func (w *world) checkStore(status hoststate.Status) {
	chain, err := w.daemon.store.Chain(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	want := map[string]bool{}
	specs := []string{status.Spec}
	for _, l := range chain {
		specs = append(specs, l.Spec)
	}
	for _, spec := range specs {
		c, err := hostconfig.ParseRecorded([]byte(spec))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range change.ExtensionSources(c) {
			want[e.SHA384] = true
		}
	}
	stored, err := filepath.Glob(filepath.Join(w.root, "var/lib/trident/extensions/*"))
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[string]bool{}
	for _, file := range stored {
		got[strings.TrimSuffix(filepath.Base(file), ".raw")] = true
	}
	if !maps.Equal(got, want) {
		w.t.Errorf("stored is %v, want %v", got, want)
	}
}
