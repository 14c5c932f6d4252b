package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
)

// OpReset is the kind, in the journal, of the operation that takes a host out of service.
const OpReset = "reset"

// Reset decides to remove from a host with the configuration runs everything that a runtime
// update can remove, and then to record the host as one that was never provisioned.
func (s *Service) Reset(runs *hostconfig.Config) change.Begin {
	return s.begins(OpReset, "reset the host", record{Asked: withoutRuntime(runs).Recorded(), Old: runs.Recorded()})
}

// PlanReset completes out, the plan of a reset of a host with the configuration runs that can
// roll back to so many earlier states. It makes the checks of the operation that need no
// extension.
func (s *Service) PlanReset(ctx context.Context, runs *hostconfig.Config, rollbacks int, out *change.Plan) error {
	asked := withoutRuntime(runs)
	r := operation.Rehearse("plan", record{Asked: asked.Recorded(), Old: runs.Recorded()}, out.Warn)
	w, err := r.State.compare()
	if err != nil {
		return err
	}
	if err := s.checkFiles(ctx, r, w); err != nil {
		return err
	}
	out.Effective = asked
	out.Steps = change.Planned(s.resetSteps(), &planned{config: asked, change: w.change, rollbacks: rollbacks})
	return nil
}

// withoutRuntime returns a configuration without what a runtime update can remove, and without
// scripts and health checks, which are of the host in service.
func withoutRuntime(c *hostconfig.Config) *hostconfig.Config {
	return c.Amend(func(s *hostconfig.Spec) {
		s.OS.Netplan, s.OS.AdditionalFiles, s.OS.Sysexts, s.OS.Confexts = nil, nil, nil, nil
		s.Scripts, s.Health = hostconfig.Scripts{}, hostconfig.Health{}
	})
}

// resetSteps returns the steps of a reset: those of a runtime update to a configuration
// without extensions, files and network, and a "settle" of its own. The records of the host
// change last, so until then another daemon finds what is still to be removed.
func (s *Service) resetSteps() []opStep {
	taken := []string{"begin", "fetch", "check", "keep", "files", "network", "extensions"}
	steps := slices.DeleteFunc(s.steps(), func(step opStep) bool { return !slices.Contains(taken, step.Name) })
	return append(steps, opStep{Name: "settle", Do: s.forget, Undo: s.forgotten, Effects: forgets}) // the point of no return
}

// forget records the host as one that Trident has not provisioned, and deletes the extensions
// that only its configurations needed.
func (s *Service) forget(ctx context.Context, r *opRun) error {
	err := s.RecordStatus(ctx, "record reset", func(st *hoststate.Status) {
		*st = hoststate.Status{Phase: hoststate.Fresh{}, ManagementOS: st.ManagementOS}
	})
	if err != nil {
		return err
	}
	r.Logf(slog.LevelInfo, "the host is recorded as not provisioned")
	s.Tidy(ctx, r, hostconfig.Empty())
	return nil
}

// forgotten returns ErrDecided if the host is recorded as not provisioned: Trident may have
// deleted the extensions that an undo needs.
func (s *Service) forgotten(ctx context.Context, _ *opRun) error {
	st, err := s.Store.Status(ctx)
	if err == nil && st.Phase == (hoststate.Fresh{}) {
		return fmt.Errorf("the host is recorded as not provisioned: %w", operation.ErrDecided)
	}
	return err
}

// forgets describes the step "settle" of a reset.
func forgets(p *planned) []change.Effect {
	var out change.Effects
	if p.rollbacks > 0 {
		out.Add("forget-rollbacks", "", "forget the earlier states to which the host can roll back: %d", p.rollbacks)
	}
	out.Add("forget-configuration", "", "record the host as not provisioned")
	return out
}
