package selfservice

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/selfservice/images"
)

// A record is the state of an operation on Trident itself. The old and the new
// version read it in turns: add fields, never rename, remove or retype one.
type record struct {
	Source source `json:"source"`
	Trial  Trial  `json:"trial"`
	// Version is the target; "" until verify has read it from the image.
	Version  string `json:"version"`
	RootHash string `json:"root_hash"`
	// Base says that the target is the Trident in /usr without an extension.
	Base bool `json:"base"`
	// Back says that the operation is a return, for which an older or a blocked
	// version is allowed.
	Back      bool `json:"back"`
	StageOnly bool `json:"stage_only"`
	// BegunIn is the ID of the boot in which the operation began.
	BegunIn string `json:"begun_in,omitempty"`
	// From is the version that began the operation, and to which an undo returns.
	From string `json:"from"`
	// Published says that this operation put the image into the store.
	Published bool `json:"published"`
	// Armed, and Activated, are set before the effect that they record.
	Armed     bool `json:"armed"`
	Activated bool `json:"activated"`
	// ActivatedIn is the ID of the boot in which the target was last activated.
	ActivatedIn string      `json:"activated_in"`
	Previous    rescue.Side `json:"previous"` // version and link before the activation
	ArmedAt     time.Time   `json:"armed_at"`
	Proofs      int         `json:"proofs"` // how often the step prove began
	// ProvedIn is the ID of the boot in which prove last began, and ProvedSince how
	// many milliseconds that boot had been running when prove first began in it.
	ProvedIn    string `json:"proved_in,omitempty"`
	ProvedSince int64  `json:"proved_since_milliseconds,omitempty"`
	Evidence    string `json:"evidence"`
	// Began is when the caller began the operation. The certificate has to be valid
	// at that time, because the clock may be wrong after a power cut. Zero in
	// records of earlier releases.
	Began time.Time `json:"began"`
	// Note says why a rollback returns to the base and not to the previous version.
	Note string `json:"note"`
}

type (
	opRun  = operation.Run[record]
	opStep = operation.Step[record]
)

// restartTimeout bounds how long systemd may take to accept a restart. It is
// shorter than the time that systemd gives a daemon to stop.
const restartTimeout = 10 * time.Second

// steps returns the steps of an upgrade. Until settle, repointing one link
// restores the previous version, and the rescuer knows that link.
func (s *Service) steps() []opStep {
	return []opStep{
		{Name: "fetch", Do: s.fetch, Undo: s.discard},
		{Name: "verify", Do: s.verify, Undo: s.unpublish},
		{Name: "probe", Do: s.probe, Undo: s.cleanProbe},
		{Name: "arm rescue", Do: s.armRescue, Undo: s.disarm},
		{Name: "return", Undo: s.restartBack}, // no Do: it stands here because Undo restarts only after that of "activate" has restored the link
		{Name: "activate", Do: s.activateImage, Undo: s.deactivate},
		{Name: "restart", Do: s.restartInto},                     // no Undo: the Undo of "return" restarts into the previous version
		{Name: "prove", Do: s.prove},                             // no Undo: it changes nothing but its own record
		{Name: "settle", Do: s.settle, Undo: s.refuseUndoOfKept}, // the point of no return
	}
}

// armRescue starts the rescuer before anything has changed.
func (s *Service) armRescue(ctx context.Context, r *opRun) error {
	if err := s.recordPrevious(ctx, r); err != nil {
		return err
	}
	if err := s.touch("copy rescuer", s.copyRescuer); err != nil {
		return err
	}
	err := s.touch("write rescue record", func() error { return s.trial.Begin(s.trialOf(r.State, r.ID)) })
	if err != nil {
		return err
	}
	if err := s.touch("write rescue unit", s.writeBootUnit); err != nil {
		return err
	}
	return s.touch("start rescuer", func() error { return s.startRescuer(ctx, r) })
}

// recordPrevious records the target of the link once: after activation the link
// has another target.
func (s *Service) recordPrevious(ctx context.Context, r *opRun) error {
	if r.State.Armed {
		return nil
	}
	link, err := s.activeLink(r.State.From)
	if err != nil {
		return err
	}
	r.State.Armed, r.State.ArmedAt = true, s.now().UTC()
	r.State.Previous = rescue.Side{Version: r.State.From, Link: link}
	return r.Save(ctx)
}

// activeLink returns the target of the extension link. If the link is damaged and
// the running version is merged, activeLink returns the link of the running
// version.
func (s *Service) activeLink(running string) (string, error) {
	_, link, err := rescue.LinkedVersion(s.Root)
	if _, serr := os.Stat(filepath.Join(s.Root, rescue.Link)); err == nil && serr == nil {
		return link, nil
	}
	merged, merr := s.images.MergedVersion()
	if _, serr := os.Stat(s.images.Path(running)); merr == nil && serr == nil && merged == running {
		return s.images.LinkTo(running), nil
	}
	return link, err
}

// disarm ends the trial against the target and keeps evidence of the failure.
func (s *Service) disarm(ctx context.Context, r *opRun) error {
	if r.State.Activated {
		if err := s.keepEvidence(ctx, r); err != nil {
			r.Logf(slog.LevelWarn, "keep evidence: %v", err)
		}
		if err := s.blockFailed(ctx, r); err != nil {
			return err
		}
	}
	s.giveUp(r, "close trial", rescue.Returned)
	// A remaining unit does no harm: a rescuer without a trial exits at once.
	for _, tidy := range []struct {
		name string
		do   func() error
	}{{"sweep", s.sweep}, {"remove rescue unit", s.removeBootUnit}} {
		if err := s.touch(tidy.name, tidy.do); err != nil {
			r.Logf(slog.LevelWarn, "%s: %v", tidy.name, err)
		}
	}
	return nil
}

// activateImage repoints the link and has systemd merge its target. It verifies
// the image in the store again, because the image may have changed since it was
// staged.
func (s *Service) activateImage(ctx context.Context, r *opRun) error {
	// After a power cut in this step, the rescuer may already have judged and given
	// up the version that was merged at boot.
	if err := s.givenUpError(r); err != nil {
		return err
	}
	r.State.Activated, r.State.ActivatedIn = true, s.Runner.Life.Boot
	if err := r.Save(ctx); err != nil {
		return err
	}
	if err := s.updateTrial(r, "mark activating", func(t *rescue.Record) { t.Activating = true }); err != nil {
		return err
	}
	if r.State.Base {
		err := s.touch("remove link", func() error { return s.images.SetLink("") })
		if err != nil {
			return err
		}
		if err := s.refresh(ctx, r, "refresh"); err != nil {
			return err
		}
		return s.checkNotMerged()
	}
	image, err := s.images.OpenVerified(ctx, s.images.Path(r.State.Version), r.Progress)
	if err != nil {
		return err
	}
	defer image.Close()
	// Undo leaves the unit enabled: without an extension it does nothing.
	if err := s.touch("enable merging", func() error { return s.Systemd.Enable(ctx, sysextUnit) }); err != nil {
		return fmt.Errorf("enable merging of extensions at every boot: %w", err)
	}
	if err := s.touch("swing link", func() error { return s.images.LinkVerified(image, r.State.Version) }); err != nil {
		return err
	}
	if err := s.refresh(ctx, r, "refresh"); err != nil {
		return err
	}
	if err := s.images.CheckMerged(image); err != nil {
		return err
	}
	// The probe runs once more from /usr: a fault of the overlay or of the host's
	// policy shows before the running daemon stops. It also loads the new daemon
	// into memory, which shortens the wait of callers.
	return s.probeDaemon(ctx, r, filepath.Join(s.Root, extension.OwnDaemon))
}

// deactivate restores the previous link and has systemd merge its target.
func (s *Service) deactivate(ctx context.Context, r *opRun) error {
	if !r.State.Activated {
		return nil
	}
	s.giveUp(r, "give up", "")
	back, err := s.undoLink(ctx, r)
	if err != nil {
		return err
	}
	if _, link, err := rescue.LinkedVersion(s.Root); err != nil || link != back {
		err := s.touch("swing back", func() error { return s.images.SetLink(back) })
		if err != nil {
			return err
		}
	}
	if merged, err := s.images.MergedVersion(); err == nil && merged == s.versionOfLink(back) {
		return nil
	}
	return s.refresh(ctx, r, "refresh back")
}

// undoLink returns the link to restore: the previous one, or "" for the base if
// the previous image is damaged, so that systemd could not merge it. It does not
// check the signature, because the image was in use.
func (s *Service) undoLink(ctx context.Context, r *opRun) (string, error) {
	link := r.State.Previous.Link
	v := images.VersionOf(link)
	if link == "" || link != s.images.LinkTo(v) {
		return link, nil
	}
	damage := s.images.CheckIntact(ctx, v)
	if damage == nil || ctx.Err() != nil {
		return link, ctx.Err()
	}
	base, err := rescue.BaseVersion(s.Root)
	if err != nil || base == "" {
		return link, nil // there is no other version to return to
	}
	r.Logf(slog.LevelWarn, "the image of trident %s is damaged, so trident returns to the base, %s: %v", v, base, damage)
	return "", nil
}

// failureReason returns why the operation turned back, for the rescuer's record.
func (s *Service) failureReason(id string) string {
	op, err := s.Runner.Get(context.Background(), id)
	if err != nil || op.Failure == nil {
		return "the operation was undone"
	}
	return op.Failure.Message
}

// refresh asks PID 1 to have systemd-sysext merge the extensions again. PID 1 runs
// one merge at a time, in a mount namespace and a cgroup of its own.
func (s *Service) refresh(ctx context.Context, r *opRun, name string) error {
	err := s.touch(name, func() error { return s.Systemd.ReloadOrRestart(ctx, sysextUnit) })
	if err == nil {
		return nil
	}
	if tail, jerr := s.journal(ctx, time.Now().Add(-time.Minute), 4<<10, sysextUnit); jerr == nil && len(tail) > 0 {
		r.Logf(slog.LevelError, "%s says: %s", sysextUnit, tail)
	}
	return fmt.Errorf("merge extensions: %w", err)
}

// updateTrial changes the rescuer's record, unless the target was given up: then
// it returns the reason.
func (s *Service) updateTrial(r *opRun, name string, note func(*rescue.Record)) error {
	return s.touch(name, func() error {
		return s.trial.Update(r.ID, func(t *rescue.Record) error {
			if t.Returning {
				return s.rolledBackError(r.State.Version, *t)
			}
			note(t)
			return nil
		})
	})
}

// restartInto has systemd restart the daemon as the target. systemd holds the
// socket meanwhile, so that callers wait and are not refused.
func (s *Service) restartInto(ctx context.Context, r *opRun) error {
	err := s.updateTrial(r, "mark restarting", func(t *rescue.Record) { t.Restarting = true })
	if err != nil || s.Version == r.State.Version {
		return err
	}
	return s.restart(ctx, "restart")
}

// restartBack has systemd restart the daemon as the version that began the
// operation.
func (s *Service) restartBack(ctx context.Context, r *opRun) error {
	if !r.State.Activated || s.Version == r.State.From {
		return nil
	}
	return s.restart(ctx, "restart back")
}

func (s *Service) restart(ctx context.Context, name string) error {
	// systemd may stop this process before its answer has arrived. The call counts
	// as made nevertheless, so that the journal records what the operation waits
	// for.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restartTimeout)
	defer cancel()
	if err := s.touch(name, func() error { return s.Systemd.Restart(ctx, daemonUnit) }); err != nil {
		return err
	}
	return operation.ErrRestart
}

// checkNotMerged fails if Trident's extension is still merged over /usr.
func (s *Service) checkNotMerged() error {
	names, err := extension.Sysext.Merged(s.Root)
	if err == nil && slices.Contains(names, extension.Own) {
		err = errkind.Errorf(errkind.Internal, "systemd has merged the extensions again, and the removed extension of trident is still merged")
	}
	return err
}
