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
	proveEvery = time.Second
	maxProofs  = 3 // a version that began to prove itself so often, and crashed
	checkTime  = 5 * time.Second
)

// prove is run by the new version: it is who it should be, it is what was
// merged, it answers through the real socket for the whole of its soak, and the
// rescuer has seen the same from outside.
func (s *Service) prove(ctx context.Context, r *opRun) error {
	if s.Version != r.State.Version {
		return s.notTheTarget(r)
	}
	if r.State.Proofs++; r.State.Proofs > maxProofs {
		return errkind.Errorf(errkind.Unhealthy, "trident %s stopped %d times while it proved itself", s.Version, maxProofs)
	}
	if err := r.Save(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.State.Trial.Deadline, errDeadline)
	defer cancel()
	err := s.checkSelf(ctx, r.State)
	if err == nil {
		r.Logf(slog.LevelInfo, "trident %s runs and answers; watching it for %s", s.Version, r.State.Trial.Soak)
		err = s.soak(ctx, r)
	}
	// The rescuer may be putting the version before back while we look: what we
	// find amiss then is its work, not the cause.
	if given := s.givenUp(r); err != nil && given != nil {
		return given
	}
	return err
}

var errDeadline = errkind.With(errkind.Unhealthy, errors.New("it did not prove itself within its deadline"))

// notTheTarget says why another version than the target is what runs.
func (s *Service) notTheTarget(r *opRun) error {
	if err := s.givenUp(r); err != nil {
		return err
	}
	return errkind.Errorf(errkind.Unhealthy, "trident %s runs, not %s", s.Version, r.State.Version)
}

// givenUp is why the target was given up, if it was.
func (s *Service) givenUp(r *opRun) error {
	if t, err := s.trial.Read(); err == nil && t.Operation == r.ID && t.Returning {
		return errkind.Errorf(errkind.Unhealthy, "trident %s was thrown back: %s", r.State.Version, t.Reason)
	}
	return nil
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
	if err := check(ctx, r); err != nil {
		return err
	}
	return s.answers(ctx, r.Version)
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

// answers asks through the socket who answers there.
func (s *Service) answers(ctx context.Context, want string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	got, err := s.SelfCheck(ctx)
	switch {
	case err != nil:
		return errkind.Errorf(errkind.Unhealthy, "ask the new version through its socket: %w", err)
	case got != want:
		return errkind.Errorf(errkind.Unhealthy, "the new version says that it is %s, not %s", got, want)
	}
	return nil
}

// soak looks on until the soak is over and the rescuer has witnessed the new
// version; it fails when either gives up.
func (s *Service) soak(ctx context.Context, r *opRun) error {
	start := time.Now()
	tick := time.NewTicker(proveEvery)
	defer tick.Stop()
	for {
		t, err := s.trial.Read()
		switch {
		case err != nil:
			return err
		case t.Operation != r.ID:
			return fmt.Errorf("the rescuer's record is of operation %s", t.Operation)
		case t.Returning:
			return s.givenUp(r)
		case t.Witnessed && time.Since(start) >= r.State.Trial.Soak:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := s.answers(ctx, r.State.Version); err != nil {
			return err
		}
	}
}

// settle decides for the new version. From its first touch on nothing turns the
// host back by itself, so what comes after it may not fail the operation.
func (s *Service) settle(ctx context.Context, r *opRun) error {
	err := s.touch("keep", func() error {
		// A full disk is not the version's fault. The rescuer's deadline ends this.
		return operation.Insist(ctx, func() error { return s.trial.Keep(r.ID) })
	})
	if err != nil {
		return errkind.Errorf(errkind.Unhealthy, "keep trident %s: %w", r.State.Version, err)
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

// decided prevents that a version is thrown back that is kept. What cannot be read
// has decided nothing.
func (s *Service) decided(_ context.Context, r *opRun) error {
	if t, err := s.trial.Read(); err == nil && t.Operation == r.ID && t.Verdict == rescue.Kept {
		return fmt.Errorf("trident %s is kept: %w", r.State.Version, operation.ErrDecided)
	}
	return nil
}

// linkOf is what the link has to point to for the target.
func (s *Service) linkOf(r record) string {
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
