// Package runtime updates the running system: extensions, files and the network of a Host
// Configuration, and Trident itself if the configuration has an image of it. The Undo of a
// step restores from copies what the step has changed.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
)

// Service services the running system of one host.
type Service struct {
	*change.Host
	Self *selfservice.Service

	start map[string]operation.Starter[record]
}

// steps returns the steps of a runtime update. A step does nothing if its part of the
// configuration is missing or does not change.
//
// Files and network come before the extensions, because a merged confext makes /etc
// read-only; an undo unmerges it first. The trial of Trident comes last, after the health
// checks, because it has a deadline.
func (s *Service) steps() []opStep {
	self := s.selfSteps()
	keepSelf := operation.From(self, "self settle")[0] // its point of no return, which is part of our "settle"
	trySelf := operation.Until(operation.From(self, "self arm rescue"), "self prove")
	return slices.Concat([]opStep{
		{Name: "begin", Do: s.beginServicing, Undo: s.recordFailure},
		{Name: "fetch", Do: compared(s.fetch), Undo: compared(s.discard)},
		{Name: "check", Do: compared(s.check), Undo: s.cleanCheck},
		{Name: "stage", Do: s.recordStaged}, // no Undo: that of "begin" records the host as it was
		{Name: "finalize", Do: compared(s.beginFinalize), Undo: s.abandon},
	}, plain(operation.Until(self, "self probe")), []opStep{
		{Name: "pre-servicing", Do: compared(s.preServicing), Effects: scripts(hooks.Pre)}, // no Undo: nobody knows what a script has changed
		{Name: "keep", Do: compared(s.keep), Undo: s.discardKept},
		{Name: "files", Do: compared(s.writeFiles), Undo: compared(s.restoreFiles), Effects: writesFiles},
		{Name: "network", Do: compared(s.setUpNetwork), Undo: s.restoreNetwork, Effects: setsUpNetwork},
		{Name: "extensions", Do: s.applyExtensions, Undo: s.undoExtensions, Effects: changesExtensions},
		{Name: "post-configure", Do: compared(s.postConfigure), Effects: scripts(hooks.Configure)}, // no Undo: as "pre-servicing"
		{Name: "health", Do: compared(s.checkHealth), Effects: checksHealth},                       // no Undo: it changes nothing
	}, plain(trySelf), []opStep{
		{ // the point of no return
			Name:    "settle",
			Do:      compared(func(ctx context.Context, r *opRun, w comparison) error { return s.settle(ctx, r, w, keepSelf.Do) }),
			Undo:    func(ctx context.Context, r *opRun) error { return errors.Join(s.decided(ctx), keepSelf.Undo(ctx, r)) },
			Effects: recordsFallback,
		},
	})
}

// selfSteps returns the steps of an upgrade of Trident. They do nothing without Upgrade.
func (s *Service) selfSteps() []operation.Step[record] {
	all := operation.Sub("self ", s.Self.Steps(), func(r *record) *selfservice.Record { return &r.Self })
	only := func(do func(context.Context, *opRun) error) func(context.Context, *opRun) error {
		if do == nil {
			return nil
		}
		return func(ctx context.Context, r *opRun) error {
			if !r.State.Upgrade {
				return nil
			}
			return do(ctx, r)
		}
	}
	for i := range all {
		all[i].Do, all[i].Undo = only(all[i].Do), only(all[i].Undo)
	}
	return all
}

// plain returns the steps of list without Effects, so that no plan has them.
func plain(list []operation.Step[record]) []opStep {
	out := make([]opStep, len(list))
	for i, s := range list {
		out[i] = opStep{Name: s.Name, Do: s.Do, Undo: s.Undo}
	}
	return out
}

// explain is the only step of an operation that has nothing to do: it logs why, and
// discards what is staged if the record says so.
func (s *Service) explain(ctx context.Context, r *opRun) error {
	for _, why := range r.State.Reasons {
		r.Logf(slog.LevelInfo, "%s", why)
	}
	if r.State.Purpose != unstages {
		return nil
	}
	if err := s.RecordStatus(ctx, "record unstaged", change.Unstage); err != nil {
		return err
	}
	r.Logf(slog.LevelInfo, "the servicing that was staged before is discarded")
	return nil
}

// beginServicing records that nothing is staged and that no servicing has failed. A host
// that Trident has not provisioned is recorded as settled from now on.
func (s *Service) beginServicing(ctx context.Context, r *opRun) error {
	for _, why := range r.State.Reasons {
		r.Logf(slog.LevelInfo, "%s", why)
	}
	return s.RecordStatus(ctx, "record begin", func(st *hoststate.Status) {
		change.Unstage(st)
		if r.State.Purpose == adopts {
			st.Phase, st.Spec = hoststate.Settled{}, r.State.Old.String()
		}
		st.LastError = nil
	})
}

// recordFailure records the previous status of the host, with the failure.
func (s *Service) recordFailure(ctx context.Context, r *opRun) error {
	op, err := s.Runner.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	last := change.LastErrorOf(op)
	return s.RecordStatus(ctx, "record failure", func(st *hoststate.Status) {
		change.Unstage(st)
		if r.State.Purpose == adopts {
			st.Phase, st.Spec = hoststate.Fresh{}, ""
		}
		st.LastError = last
	})
}

// recordStaged records the configuration that this operation or a later one finalizes.
func (s *Service) recordStaged(ctx context.Context, r *opRun) error {
	phase := hoststate.StagedRuntimeUpdate
	if r.State.Purpose == goesBack {
		phase = hoststate.StagedRuntimeRollback
	}
	err := s.RecordStatus(ctx, "record staged", func(st *hoststate.Status) {
		if st.Phase != phase { // else the step runs for a second time
			st.SpecOld = st.Spec
		}
		st.Phase, st.Spec = phase, r.State.Asked.String()
	})
	if err == nil {
		change.LogStaged(r, phase)
	}
	return err
}

// beginFinalize checks again what an earlier operation has staged, perhaps long ago. It
// does nothing if this operation has made the checks.
func (s *Service) beginFinalize(ctx context.Context, r *opRun, w comparison) error {
	if r.State.Checked {
		return nil
	}
	if err := s.CheckSources(w.sources()); err != nil {
		return err
	}
	if err := s.resolve(ctx, r, w); err != nil {
		return err
	}
	return s.check(ctx, r, w)
}

// settle keeps a new Trident and records the configuration of the host. After keepSelf
// nothing can be undone, so with an upgrade it tries to record until that succeeds.
func (s *Service) settle(ctx context.Context, r *opRun, w comparison, keepSelf func(context.Context, *opRun) error) error {
	spec := r.State.settledSpec(w.asked)
	if err := keepSelf(ctx, r); err != nil {
		return err
	}
	if err := s.RecordSettled(ctx, r, spec, r.State.Upgrade, func(*hoststate.Status) {}); err != nil {
		return err
	}
	if w.change.UEFIFallback {
		r.Logf(slog.LevelInfo, "os.uefiFallback is recorded, and takes effect with the next A/B update")
	}
	s.Tidy(ctx, r, spec)
	return nil
}

// decided returns ErrDecided if the new configuration is recorded as that of the host:
// Trident may have deleted what an undo needs.
func (s *Service) decided(ctx context.Context) error {
	st, err := s.Store.Status(ctx)
	if err == nil && st.Phase == (hoststate.Settled{}) {
		return fmt.Errorf("the new configuration is recorded: %w", operation.ErrDecided)
	}
	return err
}

// abandon records that a servicing has failed and nothing is staged, then discards.
func (s *Service) abandon(ctx context.Context, r *opRun) error {
	if err := s.recordFailure(ctx, r); err != nil {
		return err
	}
	return compared(s.discard)(ctx, r)
}

// discard deletes the images and copies that the previous configuration does not need.
func (s *Service) discard(ctx context.Context, r *opRun, w comparison) error {
	s.Tidy(ctx, r, w.old)
	return nil
}

// checkHealth runs the health checks of a runtime update. It runs none in a rollback that
// a caller has requested: Trident has no better state to which it could return.
func (s *Service) checkHealth(ctx context.Context, r *opRun, w comparison) error {
	if r.State.Purpose == goesBack {
		return nil
	}
	return hooks.CheckHealth(ctx, s.Host, r, r.ID, w.asked.Spec().Health, hostconfig.OnRuntimeUpdate)
}

func (s *Service) preServicing(ctx context.Context, r *opRun, w comparison) error {
	return hooks.Run(ctx, s.Host, r, r.ID, hooks.Pre(w.asked, hostconfig.OnRuntimeUpdate))
}

func (s *Service) postConfigure(ctx context.Context, r *opRun, w comparison) error {
	return hooks.Run(ctx, s.Host, r, r.ID, hooks.Configure(w.asked, hostconfig.OnRuntimeUpdate))
}
