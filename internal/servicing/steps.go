package servicing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
)

// steps is a runtime update. What a configuration does not have, its step finds
// out and does nothing.
//
// Files and network come before the extensions, because a merged confext makes
// /etc read-only; on the way back it is gone first. Trident itself comes last,
// after the health checks, because a new version on trial has a deadline.
func (s *Service) steps() []opStep {
	self := s.selfSteps()
	keepSelf := operation.From(self, "self settle")[0] // its point of no return, which is part of ours
	trySelf := operation.Until(operation.From(self, "self arm rescue"), "self prove")
	return slices.Concat([]opStep{
		{Name: "begin", Do: s.beginServicing, Undo: s.recordFailure},
		{Name: "fetch", Do: s.fetch, Undo: s.discard},
		{Name: "check", Do: s.check, Undo: s.cleanCheck},
		{Name: "stage", Do: s.recordStaged}, // no Undo: that of "begin" records the host as it was
		{Name: "finalize", Do: s.takeUp, Undo: s.giveUp},
	}, plain(operation.Until(self, "self probe")), []opStep{
		{Name: "pre-servicing", Do: s.preServicing, Effects: scripts(preScripts)}, // no Undo: nobody knows what a script has changed
		{Name: "keep", Do: s.keep, Undo: s.discardKept},
		{Name: "files", Do: s.writeFiles, Undo: s.restoreFiles, Effects: writesFiles},
		{Name: "network", Do: s.setUpNetwork, Undo: s.restoreNetwork, Effects: setsUpNetwork},
		{Name: "extensions", Do: s.applyExtensions, Undo: s.undoExtensions, Effects: changesExtensions},
		{Name: "post-configure", Do: s.postConfigure, Effects: scripts(configureScripts)}, // no Undo: as "pre-servicing"
		{Name: "health", Do: s.checkHealth, Effects: checksHealth},                        // no Undo: it changes nothing
	}, plain(trySelf), []opStep{
		{ // the point of no return
			Name:    "settle",
			Do:      func(ctx context.Context, r *opRun) error { return s.settle(ctx, r, keepSelf.Do) },
			Undo:    func(ctx context.Context, r *opRun) error { return errors.Join(s.decided(ctx), keepSelf.Undo(ctx, r)) },
			Effects: recordsFallback,
		},
	})
}

// selfSteps are those of an upgrade of Trident; they do nothing where there is none.
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

// look is all of an operation that has nothing to do: it says why.
func (s *Service) look(ctx context.Context, r *opRun) error {
	for _, why := range r.State.Reasons {
		r.Logf(slog.LevelInfo, "%s", why)
	}
	if !r.State.Unstage {
		return nil
	}
	if err := s.recordStatus(ctx, "record unstaged", unstage); err != nil {
		return err
	}
	r.Logf(slog.LevelInfo, "what was staged before is forgotten")
	return nil
}

// recordStatus changes what is recorded about the host.
func (s *Service) recordStatus(ctx context.Context, name string, change func(*hoststate.Status)) error {
	var st hoststate.Status
	err := operation.Insist(ctx, func() (err error) {
		st, err = s.Store.Status(ctx)
		return err
	})
	if err != nil {
		return err
	}
	change(&st)
	st.TridentVersion = s.Version
	return s.touch(name, func() error {
		return operation.Insist(ctx, func() error { return s.Store.Record(ctx, st) })
	})
}

// unstage is the status of a host before something was staged.
func unstage(st *hoststate.Status) {
	switch _, is := st.Phase.(hoststate.Staged); {
	case st.Phase == hoststate.StagedInstall:
		st.Phase, st.Spec, st.SpecOld = hoststate.Fresh{}, "", ""
	case is:
		st.Phase, st.Spec, st.SpecOld = hoststate.Settled{}, st.SpecOld, ""
	}
}

// beginServicing records that nothing is staged, and that no servicing has failed
// yet. A host that Trident has not provisioned is in its care from now on.
func (s *Service) beginServicing(ctx context.Context, r *opRun) error {
	for _, why := range r.State.Reasons {
		r.Logf(slog.LevelInfo, "%s", why)
	}
	return s.recordStatus(ctx, "record begin", func(st *hoststate.Status) {
		unstage(st)
		if r.State.Fresh {
			st.Phase, st.Spec = hoststate.Settled{}, r.State.Old
		}
		st.LastError = nil
	})
}

// recordFailure records that the host is what it was, and why.
func (s *Service) recordFailure(ctx context.Context, r *opRun) error {
	op, err := s.Runner.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	last := lastErrorOf(op)
	return s.recordStatus(ctx, "record failure", func(st *hoststate.Status) {
		unstage(st)
		if r.State.Fresh {
			st.Phase, st.Spec = hoststate.Fresh{}, ""
		}
		st.LastError = last
	})
}

// recordStaged records what will be finalized, by this operation or another one.
func (s *Service) recordStaged(ctx context.Context, r *opRun) error {
	phase := hoststate.StagedRuntimeUpdate
	if r.State.Back {
		phase = hoststate.StagedRuntimeRollback
	}
	err := s.recordStatus(ctx, "record staged", func(st *hoststate.Status) {
		if st.Phase != phase { // or this is done for a second time
			st.SpecOld = st.Spec
		}
		st.Phase, st.Spec = phase, r.State.Asked
	})
	if err == nil {
		sayStaged(r, phase)
	}
	return err
}

// takeUp begins to finalize. What was staged by an operation before, and may have
// lain there for a while, is looked at again.
func (s *Service) takeUp(ctx context.Context, r *opRun) error {
	if r.State.Checked {
		return nil
	}
	w, err := r.State.work()
	if err != nil {
		return err
	}
	if err := s.checkSources(w.sources()); err != nil {
		return err
	}
	if err := s.resolve(ctx, r, w); err != nil {
		return err
	}
	return s.check(ctx, r)
}

// settleAgain is how long to wait before what must not fail is tried again.
const settleAgain = time.Second

// settle records what the host is now. Where Trident was upgraded nothing can be
// taken back once that is kept, so from then on it is tried until it works.
func (s *Service) settle(ctx context.Context, r *opRun, keepSelf func(context.Context, *opRun) error) error {
	w, err := r.State.work()
	if err != nil {
		return err
	}
	spec := r.State.settledSpec(w.asked)
	if err := keepSelf(ctx, r); err != nil {
		return err
	}
	for {
		err := s.recordStatus(ctx, "record settled", func(st *hoststate.Status) {
			st.Phase, st.Spec, st.SpecOld, st.LastError = hoststate.Settled{}, string(spec.YAML()), "", nil
		})
		if err == nil {
			break
		}
		if !r.State.Upgrade || ctx.Err() != nil {
			return err
		}
		r.Logf(slog.LevelError, "%v; trying again", err)
		if err := sleep(ctx, settleAgain); err != nil {
			return err
		}
	}
	if w.change.UEFIFallback {
		r.Logf(slog.LevelInfo, "os.uefiFallback is recorded, and takes effect with the next A/B update")
	}
	s.tidy(ctx, r, spec)
	return nil
}

// decided prevents that a host is put back whose configuration is recorded as what it
// has: what that needs may be deleted already.
func (s *Service) decided(ctx context.Context) error {
	st, err := s.Store.Status(ctx)
	if err == nil && st.Phase == (hoststate.Settled{}) {
		return fmt.Errorf("the new configuration is recorded: %w", operation.ErrDecided)
	}
	return err
}

// giveUp ends a servicing that has failed: nothing is staged any more.
func (s *Service) giveUp(ctx context.Context, r *opRun) error {
	if err := s.recordFailure(ctx, r); err != nil {
		return err
	}
	return s.discard(ctx, r)
}

// discard deletes what was brought to the host.
func (s *Service) discard(ctx context.Context, r *opRun) error {
	w, err := r.State.work()
	if err != nil {
		return err
	}
	s.tidy(ctx, r, w.old)
	return nil
}

// tidy deletes what neither the host, which has the configuration runs, nor a way
// back needs. What stays does no harm.
func (s *Service) tidy(ctx context.Context, r teller, runs *hostconfig.Config) {
	needed := generation(runs)
	chain, err := s.Store.Chain(ctx)
	for _, l := range chain {
		c, perr := hostconfig.ParseRecorded([]byte(l.Spec))
		if err = errors.Join(err, perr); perr == nil {
			needed = append(needed, generation(c)...)
		}
	}
	if err == nil {
		err = s.extensions.Prune(needed)
	}
	if err = errors.Join(err, s.touch("remove work folders", s.sweep)); err != nil {
		r.Logf(slog.LevelWarn, "what is not needed any more stays: %v", err)
	}
}

// generation are all extensions of a configuration by value, Trident's own too.
func generation(c *hostconfig.Config) (out extension.Generation) {
	for _, w := range wanted(c) {
		out = append(out, extension.Extension{Class: w.Class, Path: w.Path, SHA384: w.SHA384})
	}
	return out
}

// Folders of ours. The work folder of an operation has copies of what it changes
// and its scripts; the staged one copies of the sources of what is staged.
const dir = "var/lib/trident/servicing"

func (s *Service) workDir(id string) string { return filepath.Join(s.folders(), id) }
func (s *Service) stagedDir() string        { return filepath.Join(s.folders(), "staged") }

func (s *Service) folders() string {
	if s.scratch != "" {
		return s.scratch
	}
	return filepath.Join(s.Root, dir)
}

// sweep deletes all of them, at the end of an operation.
func (s *Service) sweep() error {
	entries, err := os.ReadDir(filepath.Join(s.Root, dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(s.Root, dir, e.Name())))
	}
	return errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errkind.With(errkind.Cancelled, context.Cause(ctx))
	}
}
