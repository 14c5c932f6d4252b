package selfservice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/selfservice/images"
)

// Intervals and limits of the proof.
const (
	proveEvery        = time.Second
	checkTimeout      = 5 * time.Second
	silenceLimit      = 15 * time.Second // without an answer of the new version to itself
	rescuerGrace      = 10 * time.Second // for a boot to start its rescuer
	rescuerCheckEvery = 5 * time.Second  // between two checks that a rescuer runs
)

// prove runs in the new version. It fails unless this process has the target's
// version, systemd has merged the target, the daemon answers through the real
// socket during the whole soak, and the rescuer has witnessed the answers. A new
// version that is killed meanwhile begins its soak again, but its deadline goes
// on.
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
		r.Logf(slog.LevelInfo, "trident %s runs; its soak takes %s", s.Version, r.State.Trial.Soak)
		err = s.soak(ctx, r)
	}
	// The rescuer may be restoring the previous version at the same time: then a
	// fault found here is the result, not the cause.
	if given := s.givenUpError(r); err != nil && given != nil {
		return given
	}
	return err
}

// errDeadline has a kind that does not block the version: only the rescuer sees
// that a version fails, and records so.
var errDeadline = errkind.With(errkind.Timeout, errors.New("the new version did not prove itself within its deadline"))

// wrongVersionError says why another version than the target runs.
func (s *Service) wrongVersionError(r *opRun) error {
	if err := s.givenUpError(r); err != nil {
		return err
	}
	kind := errkind.Unhealthy
	if base, err := rescue.BaseVersion(s.Root); s.Version == r.State.From || err == nil && s.Version == base {
		// The target is no longer merged, or was not merged at this boot.
		kind = errkind.Unavailable
	}
	return errkind.Errorf(kind, "trident %s runs, not %s", s.Version, r.State.Version)
}

// givenUpError returns the reason for which the target was given up, or nil.
func (s *Service) givenUpError(r *opRun) error {
	if t, err := s.trial.Trial(r.ID); err == nil && t.Returning {
		return s.rolledBackError(r.State.Version, t)
	}
	return nil
}

// rolledBackError is the error of a version that was given up. Trident blocks the
// version only if the kind is Unhealthy.
func (s *Service) rolledBackError(version string, t rescue.Record) error {
	kind := errkind.Unhealthy
	if t.Blameless {
		kind = errkind.Unavailable
	}
	return errkind.Errorf(kind, "trident %s was rolled back: %s", version, t.Reason)
}

func (s *Service) checkSelf(ctx context.Context, r record) error {
	check := s.checkMergedAgain
	switch {
	case r.Base:
		check = func(context.Context, record) error { return s.checkNotMerged() }
	case r.ActivatedIn == s.Runner.Life.Boot:
		// activateImage has compared the merged files with the image in this boot.
		// To compare them again would delay the callers that have been waiting for
		// the new version.
		check = s.checkMergedVersion
	}
	return check(ctx, r)
}

// checkMergedAgain verifies the image and compares the merged files with it.
func (s *Service) checkMergedAgain(ctx context.Context, r record) error {
	image, err := s.images.OpenVerified(ctx, s.images.Path(r.Version), nil)
	if err != nil {
		return err
	}
	return errors.Join(s.images.CheckMerged(image), image.Close())
}

func (s *Service) checkMergedVersion(_ context.Context, r record) error {
	merged, err := s.images.MergedVersion()
	if err == nil && merged != r.Version {
		err = errkind.Errorf(errkind.Unhealthy, "the merged version of trident is %s", cmp.Or(merged, "none"))
	}
	return err
}

// checkAnswer asks for the version through the socket and fails unless the answer
// is want. isOtherVersion says that another version answered.
func (s *Service) checkAnswer(ctx context.Context, want string) (isOtherVersion bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	got, err := s.SelfCheck(ctx)
	switch {
	case err != nil:
		return false, errkind.Errorf(errkind.Unhealthy, "ask the new version for its version through the socket: %w", err)
	case got != want:
		return true, errkind.Errorf(errkind.Unhealthy, "version %s answers on the socket, not %s", got, want)
	}
	return false, nil
}

// soak returns nil when the soak is over and the rescuer has witnessed the new
// version. It fails when the daemon has been silent for silenceLimit, or when the
// rescuer gave the target up. One missing answer restarts the soak. While the
// socket is missing, soak waits until the rescuer or the daemon has recreated the
// socket.
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
				r.Logf(slog.LevelWarn, "restart the rescuer: %v", err)
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

// settle keeps the new version. After its first touch nothing returns the host to
// the previous version any more, so faults of the later touches are logged and do
// not fail the operation.
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
	previous := r.State.Previous.Link
	if r.State.Back {
		previous = ""
	}
	for _, tidy := range []struct {
		name string
		do   func() error
	}{
		{"remove rescue unit", s.removeBootUnit},
		{"set previous", func() error { return s.images.SetPrevious(previous) }},
		{"prune", func() error { return s.prune(ctx) }},
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

// prune deletes the images, the evidence and the temporary files that nobody needs any more.
func (s *Service) prune(ctx context.Context) error {
	grace, err := s.grace(ctx)
	return errors.Join(err, s.images.Prune(grace), s.pruneEvidence(), s.sweep())
}

// grace returns for how long a retired image stays; with an error, for ever.
func (s *Service) grace(ctx context.Context) (time.Duration, error) {
	if s.Grace == nil {
		return 0, nil
	}
	grace, err := s.Grace(ctx)
	if err != nil {
		return -1, fmt.Errorf("read for how long images stay: %w", err)
	}
	return grace, nil
}

// PruneImages deletes the images in the store whose grace is over, unless an operation is
// running: its end does the same. The daemon calls it once at its start.
func (s *Service) PruneImages(ctx context.Context) error {
	if _, busy := s.Runner.Active(); busy {
		return nil
	}
	grace, err := s.grace(ctx)
	if err != nil {
		return err
	}
	return s.touch("prune images", func() error { return s.images.PruneRetired(grace) })
}

// sweep deletes temporary files from before a power cut. The caller has ended the
// trial, so that no other process writes them.
func (s *Service) sweep() error {
	var errs []error
	for _, path := range []string{rescue.Link, bootUnitPath, bootWantsPath, rescue.Dir + "/" + images.PreviousName, rescue.Program} {
		errs = append(errs, atomicfile.Sweep(filepath.Join(s.Root, path)))
	}
	return errors.Join(errs...)
}

// refuseUndoOfKept returns operation.ErrDecided if the version is kept. A record
// that cannot be read does not count as a verdict.
func (s *Service) refuseUndoOfKept(_ context.Context, r *opRun) error {
	if t, err := s.trial.Read(); err == nil && t.Operation == r.ID && t.Verdict == rescue.Kept {
		return fmt.Errorf("trident %s is kept: %w", r.State.Version, operation.ErrDecided)
	}
	return nil
}

// targetLink returns the link of the target; "" for the base.
func (s *Service) targetLink(r record) string {
	if r.Base {
		return ""
	}
	return s.images.LinkTo(r.Version)
}

// versionOfLink returns the version that systemd merges for a link; "" for no
// link.
func (s *Service) versionOfLink(link string) string {
	if link == "" {
		return ""
	}
	return images.VersionOf(link)
}
