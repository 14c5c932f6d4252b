package servicing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
)

// Plan is what a servicing would do to a host: an installation, an update in the running
// system or into the other slot, or the writing of a whole disk. The steps describe it
// themselves, each next to what it does.
type Plan struct {
	Kind    Kind
	Reasons []diff.Reason // why it is of this kind
	// Effective is the configuration as it would be recorded; nil for a whole disk.
	Effective *hostconfig.Config
	// Steps are those that change something, in order.
	Steps []PlannedStep
	// Storage is what becomes of the disks; nil where no partition is written.
	Storage *storage.Description
	// Warnings are what the servicing would warn of before it changes a disk.
	Warnings []string
}

// PlannedStep is a step of an operation and its effects.
type PlannedStep struct {
	Name    string
	Effects []Effect
}

// Effect is one thing that a step does.
type Effect struct {
	Kind   string // for programs, as in write-file
	Object string // what it is done to: a path, a name
	Text   string // for people, in one line
}

// Effects are those of all steps.
func (p *Plan) Effects() []Effect {
	var out []Effect
	for _, s := range p.Steps {
		out = append(out, s.Effects...)
	}
	return out
}

// String is the plan for people, in several lines.
func (p *Plan) String() string {
	var b strings.Builder
	if p.Storage != nil {
		fmt.Fprintf(&b, "%s\n", p.Storage)
	}
	if p.Kind == None {
		b.WriteString(noUpdate + ".\n")
	}
	if len(p.Steps) > 0 {
		fmt.Fprintf(&b, "Steps of the servicing %s:\n", p.Kind)
	}
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "  %s\n", s.Name)
		for _, e := range s.Effects {
			fmt.Fprintf(&b, "    %s\n", e.Text)
		}
	}
	if len(p.Reasons) > 0 {
		b.WriteString("Why:\n")
	}
	for _, r := range p.Reasons {
		fmt.Fprintf(&b, "  %s\n", strings.TrimSpace(r.Path+" "+r.Text))
	}
	return b.String()
}

// A step is one of an operation, and what it does in words.
type step[S any] struct {
	Name     string
	Do, Undo func(context.Context, *operation.Run[S]) error
	// Effects are what Do would do; nil: nothing that anybody would notice.
	Effects func(*planned) []Effect
}

// plain are steps that a plan says nothing of.
func plain[S any](list []operation.Step[S]) []step[S] {
	out := make([]step[S], len(list))
	for i, s := range list {
		out[i] = step[S]{Name: s.Name, Do: s.Do, Undo: s.Undo}
	}
	return out
}

// runnable is what package operation runs of a list.
func runnable[S any](list []step[S]) []operation.Step[S] {
	out := make([]operation.Step[S], len(list))
	for i, s := range list {
		out[i] = operation.Step[S]{Name: s.Name, Do: s.Do, Undo: s.Undo}
	}
	return out
}

// effectsOf are the effects of a list.
func effectsOf[S any](list []step[S], p *planned) []PlannedStep {
	var out []PlannedStep
	for _, s := range list {
		if s.Effects == nil {
			continue
		}
		if effects := s.Effects(p); len(effects) > 0 {
			out = append(out, PlannedStep{s.Name, effects})
		}
	}
	return out
}

// Plan says what Update would do for a configuration. It changes nothing. What the
// operation would fail for before it changes something is an error here too, as far as
// it can be known without fetching extensions.
func (s *Service) Plan(ctx context.Context, c *hostconfig.Config) (*Plan, error) {
	p, err := s.planUpdate(ctx, c)
	return p, wrap("plan update", err)
}

func (s *Service) planUpdate(ctx context.Context, c *hostconfig.Config) (*Plan, error) {
	c, err := s.knownImage(ctx, c)
	if err != nil {
		return nil, err
	}
	st, err := s.state(ctx)
	if err != nil {
		return nil, err
	}
	p, err := st.plan(c)
	if err != nil {
		return nil, err
	}
	out := &Plan{Kind: kindOfChange(p.change.Kind), Reasons: p.change.Reasons, Effective: p.asked}
	switch {
	case p.change.Kind == diff.KindRuntimeUpdate:
		err = s.rehearse(func(dry *Service) error { return dry.planRuntime(ctx, p, out) })
	case p.change.Kind == diff.KindABUpdate && st.runs != nil:
		var r osRecord
		if r, err = s.slotRecord(st); err != nil {
			return nil, err
		}
		r.Asked = string(p.asked.YAML())
		err = s.rehearse(func(dry *Service) error { return osService{dry}.rehearseOS(ctx, r, out) })
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func kindOfChange(k diff.Kind) Kind {
	switch k {
	case diff.KindRuntimeUpdate:
		return RuntimeUpdate
	case diff.KindABUpdate:
		return ABUpdate
	case diff.KindCleanInstall:
		return CleanInstall
	}
	return None
}

// RequiredKind says what kind of servicing Update would be for a configuration. It is
// cheaper than Plan, and says nothing of whether the update would succeed.
func (s *Service) RequiredKind(ctx context.Context, c *hostconfig.Config) (Kind, error) {
	c, err := s.knownImage(ctx, c)
	if err != nil {
		return None, wrap("compare with the host", err)
	}
	st, err := s.state(ctx)
	if err != nil {
		return None, wrap("compare with the host", err)
	}
	p, err := st.plan(c)
	return kindOfChange(p.change.Kind), wrap("compare with the host", err)
}

// planRuntime checks what "check" does, but for extensions: they would have to be fetched.
func (s *Service) planRuntime(ctx context.Context, p plan, out *Plan) error {
	r := operation.Rehearse("plan", record{Asked: string(p.asked.YAML()), Old: string(p.runs.YAML())}, out.warn)
	w, err := r.State.work()
	for _, check := range []func(context.Context, *opRun, work) error{s.checkFiles, s.checkScripts, s.checkNetplan} {
		if err == nil {
			err = check(ctx, r, w)
		}
	}
	out.Steps = effectsOf(s.steps(), &planned{config: w.asked, change: w.change, on: hostconfig.OnRuntimeUpdate})
	return err
}

// PlanInstall says what Install would do to this host, and what of its disks it would
// destroy. It changes nothing, and may be asked for on any host.
func (s *Service) PlanInstall(ctx context.Context, c *hostconfig.Config) (*Plan, error) {
	asked, err := state{phase: hoststate.Fresh{}}.installable(c)
	if err != nil {
		return nil, wrap("plan installation", err)
	}
	out := &Plan{Kind: CleanInstall, Effective: asked}
	if err := (osService{s}).safeToInstall(); err != nil {
		out.Warnings = append(out.Warnings, err.Error())
	}
	r := osRecord{Asked: string(asked.YAML()), Install: true, Slot: slot.A}
	err = s.rehearse(func(dry *Service) error { return osService{dry}.rehearseOS(ctx, r, out) })
	if err != nil {
		return nil, wrap("plan installation", err)
	}
	return out, nil
}

// rehearseOS does what "image" does, and fills in the plan.
func (s osService) rehearseOS(ctx context.Context, record osRecord, out *Plan) error {
	r := operation.Rehearse("plan", record, out.warn)
	e, err := s.examineImage(ctx, r)
	if err != nil {
		return err
	}
	*out = *s.planOf(r, e, *out)
	return nil
}

// planOf completes a plan by what an examination has found.
func (s osService) planOf(r *osRun, e *examined, p Plan) *Plan {
	d := e.plan.Describe()
	p.Storage = &d
	p.Steps = effectsOf(s.steps(), &planned{config: e.config, on: r.State.on(), os: &r.State, examined: e})
	return &p
}

func (p *Plan) warn(level slog.Level, text string) {
	if level >= slog.LevelWarn {
		p.Warnings = append(p.Warnings, text)
	}
}

// rehearse gives use a service that can do what a step does before it changes the host:
// what it writes goes into a folder in memory of its own, and is gone afterwards.
func (s *Service) rehearse(use func(dry *Service) error) (err error) {
	const dir = "run/trident"
	if err := os.MkdirAll(filepath.Join(s.Root, dir), 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(filepath.Join(s.Root, dir), "plan-")
	if err != nil {
		return errkind.WithHint(err, "The folder /%s has to be writable.", dir)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	dry := &Service{Config: s.Config, extensions: s.extensions, etcClosed: s.etcClosed, scratch: scratch}
	dry.Touch = nil
	return use(dry)
}

func newSeed() []byte {
	seed := make([]byte, 32)
	_, _ = rand.Read(seed)
	return seed
}
