package selfservice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
)

// Figures of the proof.
const (
	proveEvery        = time.Second
	checkTimeout      = 5 * time.Second
	silenceLimit      = 15 * time.Second // with a new version that does not answer itself
	rescuerGrace      = 10 * time.Second // that a boot may take to start its rescuer
	rescuerCheckEvery = 5 * time.Second  // between two looks whether there is one
)

// prove is run by the new version: it is who it should be, it is what was
// merged, it answers through the real socket for the whole of its soak, and the
// rescuer has seen the same from outside. A new version that is killed meanwhile
// begins its soak again, but not its deadline.
func (s *Service) prove(ctx context.Context, r *opRun) error {
	if s.Version != r.State.Version {
		return s.wrongVersionError(r)
	}
	r.State.Proofs++
	boot, up := s.trial.BootClock()
	if r.State.ProvedIn != boot {
		r.State.ProvedIn, r.State.ProvedSince = boot, up.Milliseconds()
	}
	if err := r.Save(ctx); err != nil {
		return err
	}
	spent := max(0, up-time.Duration(r.State.ProvedSince)*time.Millisecond)
	ctx, cancel := context.WithTimeoutCause(ctx, r.State.Trial.Deadline-spent, errDeadline)
	defer cancel()
	err := s.checkSelf(ctx, r.State)
	if err == nil {
		r.Logf(slog.LevelInfo, "trident %s runs; watching it for %s", s.Version, r.State.Trial.Soak)
		err = s.soak(ctx, r)
	}
	// The rescuer may be putting the version before back while we look: what we
	// find amiss then is its work, not the cause.
	if given := s.givenUpError(r); err != nil && given != nil {
		return given
	}
	return err
}

// errDeadline has no kind that blocks the version: it is the rescuer who sees
// that a version fails, and who says so.
var errDeadline = errkind.With(errkind.Timeout, errors.New("it did not prove itself within its deadline"))

// wrongVersionError says why another version than the target is what runs.
func (s *Service) wrongVersionError(r *opRun) error {
	if err := s.givenUpError(r); err != nil {
		return err
	}
	kind := errkind.Unhealthy
	if base, err := rescue.BaseVersion(s.Root); s.Version == r.State.From || err == nil && s.Version == base {
		// The target is not merged any more, or never was at this boot.
		kind = errkind.Unavailable
	}
	return errkind.Errorf(kind, "trident %s runs, not %s", s.Version, r.State.Version)
}

// givenUpError is why the target was given up, if it was.
func (s *Service) givenUpError(r *opRun) error {
	if t, err := s.trial.Trial(r.ID); err == nil && t.Returning {
		return s.rolledBackError(r.State.Version, t)
	}
	return nil
}

// rolledBackError is the failure of a version that was given up. Only an Unhealthy one
// is blocked.
func (s *Service) rolledBackError(version string, t rescue.Record) error {
	kind := errkind.Unhealthy
	if t.Blameless {
		kind = errkind.Unavailable
	}
	return errkind.Errorf(kind, "trident %s was thrown back: %s", version, t.Reason)
}

func (s *Service) checkSelf(ctx context.Context, r record) error {
	check := s.checkMergedAgain
	switch {
	case r.Base:
		check = func(context.Context, record) error { return s.checkNotMerged() }
	case r.ActivatedIn == s.Runner.Life.Boot:
		// What is merged was compared with the image when it was activated. To do so
		// again would take the processors from the callers who have waited for us.
		check = s.checkMergedVersion
	}
	return check(ctx, r)
}

// checkMergedAgain verifies the image and what systemd has merged of it.
func (s *Service) checkMergedAgain(ctx context.Context, r record) error {
	image, err := s.openVerified(ctx, s.imagePath(r.Version), nil)
	if err != nil {
		return err
	}
	return errors.Join(s.checkMerged(image), image.Close())
}

func (s *Service) checkMergedVersion(_ context.Context, r record) error {
	merged, err := s.mergedVersion()
	if err == nil && merged != r.Version {
		err = errkind.Errorf(errkind.Unhealthy, "merged is trident %s", cmp.Or(merged, "of no version"))
	}
	return err
}

// checkAnswer asks through the socket who answers there. other says that it is another
// version.
func (s *Service) checkAnswer(ctx context.Context, want string) (isOtherVersion bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	got, err := s.SelfCheck(ctx)
	switch {
	case err != nil:
		return false, errkind.Errorf(errkind.Unhealthy, "ask the new version through its socket: %w", err)
	case got != want:
		return true, errkind.Errorf(errkind.Unhealthy, "the new version says that it is %s, not %s", got, want)
	}
	return false, nil
}

// soak looks on until the soak is over and the rescuer has witnessed the new
// version; it fails when either gives up. A new version that does not answer for
// a moment begins its soak anew. One whose socket is gone waits until the socket
// has been made again, which is the rescuer's business or the daemon's.
func (s *Service) soak(ctx context.Context, r *opRun) error {
	began := time.Now()
	soakStart, lastAnswer, lastRescuerCheck := began, began, began
	tick := time.NewTicker(proveEvery)
	defer tick.Stop()
	for {
		other, aerr := s.checkAnswer(ctx, r.State.Version)
		current := time.Now()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case aerr == nil:
			lastAnswer = current
		case other:
			return aerr
		case s.isSocketDown():
			soakStart, lastAnswer = current, current
		case current.Sub(lastAnswer) >= silenceLimit:
			return aerr
		default:
			soakStart = current
		}
		t, err := s.trial.Trial(r.ID)
		switch {
		case err != nil:
			return errkind.With(errkind.Unavailable, err)
		case t.Returning:
			return s.rolledBackError(r.State.Version, t)
		case aerr == nil && t.Witnessed && current.Sub(soakStart) >= r.State.Trial.Soak:
			return nil
		}
		if _, link, err := rescue.LinkedVersion(s.Root); err != nil || link != s.targetLink(r.State) {
			return errkind.Errorf(errkind.Precondition, "the extension link was changed during the trial: %w",
				cmp.Or(err, fmt.Errorf("it points to %q", link)))
		}
		if current.Sub(began) >= rescuerGrace && current.Sub(lastRescuerCheck) >= rescuerCheckEvery {
			lastRescuerCheck = current
			if err := s.ensureRescuer(ctx, r); err != nil {
				r.Logf(slog.LevelWarn, "start the rescuer again: %v", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Service) isSocketDown() bool {
	if s.IsSocketDown != nil {
		return s.IsSocketDown()
	}
	return rescue.IsSocketDown(s.Root)
}

// settle decides for the new version. From its first touch on nothing turns the
// host back by itself, so what comes after it may not fail the operation.
func (s *Service) settle(ctx context.Context, r *opRun) error {
	err := s.touch("keep", func() error {
		// A full disk is not the version's fault. The rescuer's deadline ends this.
		return operation.Insist(ctx, func() error { return s.trial.Keep(r.ID) })
	})
	if err != nil {
		if given := s.givenUpError(r); given != nil {
			return given
		}
		return errkind.Errorf(errkind.Unavailable, "keep trident %s: %w", r.State.Version, err)
	}
	for _, tidy := range []struct {
		name string
		do   func() error
	}{
		{"remove rescue unit", s.removeBootUnit},
		{"set previous", func() error { return s.setPrevious(r.State) }},
		{"prune", func() error { return s.prune() }},
	} {
		if err := s.touch(tidy.name, tidy.do); err != nil {
			r.Logf(slog.LevelWarn, "%s: %v", tidy.name, err)
		}
	}
	what := "trident " + r.State.Version
	if r.State.Base {
		what += " of the base"
	}
	r.Logf(slog.LevelInfo, "%s is kept", what)
	return nil
}

// refuseUndoOfKept prevents that a version is thrown back that is kept. What cannot be read
// has decided nothing.
func (s *Service) refuseUndoOfKept(_ context.Context, r *opRun) error {
	if t, err := s.trial.Read(); err == nil && t.Operation == r.ID && t.Verdict == rescue.Kept {
		return fmt.Errorf("trident %s is kept: %w", r.State.Version, operation.ErrDecided)
	}
	return nil
}

// targetLink is what the link has to point to for the target.
func (s *Service) targetLink(r record) string {
	if r.Base {
		return ""
	}
	return s.linkTo(r.Version)
}

// versionOfLink is the version that has to be merged for a link; "" for none.
func (s *Service) versionOfLink(link string) string {
	if link == "" {
		return ""
	}
	return versionOfImage(link)
}
