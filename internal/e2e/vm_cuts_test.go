//go:build vm

package e2e

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/osimage"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/proto/client"
)

// A cut is a moment of an operation in which the test cuts the power.
type cut struct {
	phase operation.Phase
	step  string
}

func doing(steps ...string) []cut   { return cutsIn(operation.Doing, steps) }
func undoing(steps ...string) []cut { return cutsIn(operation.Undoing, steps) }

func cutsIn(phase operation.Phase, steps []string) (list []cut) {
	for _, step := range steps {
		list = append(list, cut{phase, step})
	}
	return list
}

// cutsOfLanding returns a third of the cuts of a sweep by the number of the landing, because
// each cut costs a boot of an emulated machine. The next turns of the sweep make the others.
// It returns all cuts with TRIDENT_EVERY_CUT=1.
func cutsOfLanding[T any](t *testing.T, all []T) (list []T) {
	t.Helper()
	for i, c := range all {
		if hosttest.InRound(i) {
			list = append(list, c)
		}
	}
	t.Logf("cuts in %v of %v", list, all)
	return list
}

// The steps of an installation, of an update into the other slot and of a rebuild, grouped by
// the sweeps that cut the power in them.
var (
	whileWritten = []string{"begin", "management os", "image", "pre-servicing", "partition", "write", "post-provision"}
	untilReboot  = []string{"configure", "post-configure", "labels", "seal", "boot files", "stage", "finalize", "try", "reboot"}
	inTrial      = []string{"booted", "unlock", "settle", "health"}
	inRebuild    = []string{"begin", "check", "partition", "add", "sync", "boot entries", "record"} // of arrays
)

// A sweep is one operation that loses its power in one step after the other.
type sweep struct {
	*guest
	images []osimage.Image // that the machine finds on the server
	// begin begins the operation and passes its events to fn.
	begin func(ctx context.Context, fn func(*client.Event)) error
	// truth returns what is wrong with the status of the system whose root has this UUID.
	truth func(st recorded, root string) string
	// boot switches the machine on after a cut; nil stands for BootInstalled.
	boot func(ctx context.Context) error

	id        string   // of the operation
	plan      []string // its steps
	stoppedAt cut      // by the journal, when the power went last
}

// position returns the position of a moment in the operation: all steps forwards, then
// backwards. The zero cut is before all of them.
func (s *sweep) position(c cut) int {
	at := slices.Index(s.plan, c.step)
	switch c.phase {
	case "":
		return -1
	case operation.Doing:
		return at
	case operation.Done:
		return len(s.plan)
	case operation.Undoing:
		return 2*len(s.plan) - at
	}
	return 2*len(s.plan) + 1
}

// readPlan reads the steps of the operation.
func (s *sweep) readPlan(ctx context.Context, id string) {
	op, err := s.api.Operation(ctx, id)
	if err != nil {
		s.t.Error(err)
	}
	s.id = id
	for _, step := range op.GetSteps() {
		s.plan = append(s.plan, step.Name)
		if !slices.Contains(slices.Concat(whileWritten, untilReboot, inTrial, inRebuild), step.Name) {
			s.t.Errorf("no sweep cuts the power in %q", step.Name)
		}
	}
}

// recorded is the part of a host status that the sweeps check, with upstream's names.
type recorded struct {
	State   string `yaml:"servicingState"`
	Volume  string `yaml:"abActiveVolume"`
	Spec    ofHost `yaml:"spec"`
	SpecOld ofHost `yaml:"specOld"`
}

type ofHost struct {
	Image struct {
		SHA384 string `yaml:"sha384"`
	} `yaml:"image"`
}

func (g *guest) parsed(text string) (st recorded) {
	g.t.Helper()
	if err := yaml.Unmarshal([]byte(text), &st); err != nil {
		g.t.Fatal(err, text)
	}
	return st
}

// The units that continue an operation at boot. Where they are disabled, the operation
// waits for the first call, so that the test can read the datastore before the call and
// receives all events after it.
const goesOn = "tridentd-resume.path trident.service"

func (g *guest) waitsForCall() bool {
	return strings.HasPrefix(g.sh("systemctl is-enabled tridentd-resume.path || true"), "disabled")
}

// cutEach cuts the power at each cut and checks the status after each boot. The machine
// runs when it returns.
func (s *sweep) cutEach(cuts []cut) {
	s.t.Helper()
	lap := stopwatch(s.t)
	follow := s.begin
	for _, c := range cuts {
		if s.id != "" && s.position(c) <= s.position(s.stoppedAt) {
			s.t.Logf("%v was over when the power went in %v", c, s.stoppedAt)
			continue
		}
		s.cutAt(c, follow)
		lap("until the cut in " + c.step)
		s.powerOn()
		s.checkStatus()
		if s.position(s.stoppedAt) < s.position(c) {
			s.t.Errorf("the power was cut in %v, and the journal says %v", c, s.stoppedAt)
		}
		s.t.Logf("cut in %v: the journal says %v", c, s.stoppedAt)
		lap("booted and looked at")
		follow = func(ctx context.Context, fn func(*client.Event)) error {
			_, err := s.api.Watch(ctx, s.id, 0, fn)
			return err
		}
	}
}

// cutAt cuts the power at the first event that is at c or beyond it. Until then it switches
// the machine on whenever the machine goes off.
func (s *sweep) cutAt(c cut, follow func(context.Context, func(*client.Event)) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 8*time.Minute)
	defer cancel()
	var gone atomic.Bool
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- follow(ctx, func(e *client.Event) {
			if s.id == "" {
				s.readPlan(ctx, e.OperationId)
			}
			if e.GetChange() == nil || s.position(momentOf(e)) < s.position(c) || gone.Swap(true) {
				return
			}
			if err := s.PowerCut(); err != nil {
				s.t.Error(err)
			}
			cancel()
		})
	}()
	for s.WaitOff(ctx) == nil && !gone.Load() {
		if err := s.BootInstalled(ctx); err != nil && !errors.Is(err, lab.ErrOff) && ctx.Err() == nil {
			s.t.Error(err)
			cancel()
		}
		// In this system, too, the operation waits for the first call.
		_, _ = s.Run(ctx, "systemctl disable -q "+goesOn+" && sync", nil)
	}
	err := <-ended
	if !gone.Load() {
		s.t.Fatalf("the power was not cut in %v: %v", c, err)
	}
	if err := s.PowerCut(); err != nil { // it was on its way up, perhaps
		s.t.Fatal(err)
	}
}

// momentOf returns the moment of an operation that an event reports.
func momentOf(e *client.Event) cut {
	return cut{operation.Phase(strings.ToLower(strings.TrimPrefix(e.Phase.String(), "PHASE_"))), e.Step}
}

// powerOn switches the machine on after a cut.
func (s *sweep) powerOn() {
	s.t.Helper()
	boot := s.boot
	if boot == nil {
		boot = s.BootInstalled
	}
	if err := boot(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.serveImages(s.images...)
	s.redial()
}

// redial replaces the client, because an installed system is another host to a client.
func (g *guest) redial() {
	g.t.Helper()
	api, err := client.Dial(g.socket)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { api.Close() })
	g.api = api
}

// checkStatus reads in which moment the operation lost its power, and checks the status.
func (s *sweep) checkStatus() {
	s.t.Helper()
	root := s.sh("findmnt -n -o UUID /")
	var st recorded
	if s.waitsForCall() {
		st = s.readAtRest()
	} else { // it has gone on
		op, err := s.api.Operation(s.t.Context(), s.id)
		if err != nil {
			s.t.Fatal(err)
		}
		now := cut{operation.Phase(strings.ToLower(strings.TrimPrefix(op.Phase.String(), "PHASE_"))), op.Step}
		if s.position(now) > s.position(s.stoppedAt) { // what was handed over is a step behind
			s.stoppedAt = now
		}
		st = s.parsed(s.status())
	}
	if wrong := s.truth(st, root); wrong != "" {
		s.t.Errorf("after the cut in %v: %s: root %s, %+v", s.stoppedAt, wrong, root, st)
	}
}

// readAtRest reads the datastore before a daemon opens it.
func (s *sweep) readAtRest() recorded {
	s.t.Helper()
	if got := s.sh("systemctl is-active tridentd.service || true"); got != "inactive" {
		s.t.Fatalf("the daemon is %s, and nobody has called it", got)
	}
	dir := s.t.TempDir()
	packed, err := s.Run(s.t.Context(), "cd "+filepath.Dir(datastorePath)+" && tar cf - "+filepath.Base(datastorePath)+"*", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	tar := exec.CommandContext(s.t.Context(), "tar", "xf", "-", "-C", dir)
	tar.Stdin = strings.NewReader(packed)
	if out, err := tar.CombinedOutput(); err != nil {
		s.t.Fatal(err, string(out))
	}
	store, err := hoststate.Open(s.t.Context(), filepath.Join(dir, filepath.Base(datastorePath)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	op, err := store.Load(s.t.Context(), s.id)
	if err != nil {
		s.t.Fatal(err)
	}
	s.stoppedAt = cut{op.Phase, op.Step}
	st, err := store.Status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return recorded{
		State: st.Phase.State(), Volume: string(st.ABActiveVolume),
		Spec: s.spec(st.Spec), SpecOld: s.spec(st.SpecOld),
	}
}

func (g *guest) spec(text string) (of ofHost) {
	g.t.Helper()
	if err := yaml.Unmarshal([]byte(text), &of); err != nil && !errors.Is(err, io.EOF) {
		g.t.Fatal(err, text)
	}
	return of
}

// resume lets the operation continue without help, and returns the ended operation.
func (s *sweep) resume() *client.Operation {
	s.t.Helper()
	if s.waitsForCall() {
		s.sh("for u in " + goesOn + "; do ! systemctl -q cat $u >/dev/null 2>&1 || systemctl -q enable $u; done; systemctl start --no-block tridentd-resume.path")
	}
	s.untilSettled()
	s.redial()
	op, err := s.api.Operation(s.t.Context(), s.id)
	if err != nil {
		s.t.Fatal(err)
	}
	return op
}

// untilSettled switches the machine on whenever it goes off, until no operation is pending.
func (g *guest) untilSettled() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Minute)
	defer cancel()
	for {
		_, err := g.Run(ctx, noMoreWork, nil)
		if err == nil {
			return
		}
		// Only a machine that goes down ends the command before.
		if off := g.WaitOff(ctx); off != nil {
			g.t.Fatal("the operation does not end: ", err, off)
		}
		if err := g.BootInstalled(ctx); err != nil && !errors.Is(err, lab.ErrOff) {
			g.t.Fatal(err)
		}
	}
}
