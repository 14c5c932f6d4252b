package selfservice

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
)

// record is what an operation on ourselves knows. Fields are only ever added:
// the old version and the new one read it in turns.
type record struct {
	Source source `json:"source"`
	Trial  Trial  `json:"trial"`
	// Version is the target; "" until the image has said it.
	Version  string `json:"version"`
	RootHash string `json:"root_hash"`
	// Base: the target is what lies in /usr without an extension.
	Base bool `json:"base"`
	// Back: it is a return, so that an older or a blocked version is fine.
	Back      bool `json:"back"`
	StageOnly bool `json:"stage_only"`
	// BegunIn is the boot in which it was begun.
	BegunIn string `json:"begun_in,omitempty"`
	// From is the version that began it, and that an undo returns to.
	From string `json:"from"`
	// Published: the image in the store is of this operation.
	Published bool `json:"published"`
	// Armed and what follows are set before what they tell of is done.
	Armed     bool `json:"armed"`
	Activated bool `json:"activated"`
	// ActivatedIn is the boot in which it was last activated.
	ActivatedIn string      `json:"activated_in"`
	Previous    rescue.Side `json:"previous"` // where the link pointed to before
	ArmedAt     time.Time   `json:"armed_at"`
	Proofs      int         `json:"proofs"` // how often the new version began to prove itself
	// ProvedIn is the boot in which it last began to, and ProvedSince how many
	// milliseconds that boot had run when it first did.
	ProvedIn    string `json:"proved_in,omitempty"`
	ProvedSince int64  `json:"proved_since_milliseconds,omitempty"`
	Evidence    string `json:"evidence"`
	// Began is when the caller asked for the operation. At that time the certificate
	// has to be valid: the clock may be wrong after a power cut. Zero in the records of
	// earlier releases.
	Began time.Time `json:"began"`
	// Note says why a rollback leads to the base and not to the version before.
	Note string `json:"note"`
}

type (
	opRun  = operation.Run[record]
	opStep = operation.Step[record]
)

// restartTimeout bounds how long systemd may take to accept a restart. It is
// shorter than what a daemon that is stopped has left.
const restartTimeout = 10 * time.Second

// steps is an upgrade. Up to settle the version before is one link away, and
// the rescuer knows which.
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

// armRescue sets the judge to work before there is anything to judge.
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

// recordPrevious notes where the link points to, once: after activation it
// points elsewhere.
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

// activeLink is what the extension link points to. Where it is damaged and the
// running version is what is merged, it is what the link has to point to for that.
func (s *Service) activeLink(running string) (string, error) {
	_, link, err := rescue.LinkedVersion(s.Root)
	if _, serr := os.Stat(filepath.Join(s.Root, rescue.Link)); err == nil && serr == nil {
		return link, nil
	}
	merged, merr := s.mergedVersion()
	if _, serr := os.Stat(s.imagePath(running)); merr == nil && serr == nil && merged == running {
		return s.linkTo(running), nil
	}
	return link, err
}

// disarm ends the trial without the target, and keeps what may tell why it
// failed.
func (s *Service) disarm(ctx context.Context, r *opRun) error {
	if r.State.Activated {
		if err := s.keepEvidence(ctx, r); err != nil {
			r.Logf(slog.LevelWarn, "evidence not kept: %v", err)
		}
		if err := s.blockFailed(ctx, r); err != nil {
			return err
		}
	}
	s.giveUp(r, "close trial", rescue.Returned)
	// What stays does no harm: a rescuer that finds no trial ends.
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

// activateImage swings the link and has systemd merge what it points to. Only a
// verified image is merged, so what is in the store is verified once more: it
// has lain there for a while.
func (s *Service) activateImage(ctx context.Context, r *opRun) error {
	// After a power cut in this step the version that was merged at boot may have
	// been judged, and thrown back, before we are here again.
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
		err := s.touch("remove link", s.removeLink)
		if err != nil {
			return err
		}
		if err := s.refresh(ctx, r, "refresh"); err != nil {
			return err
		}
		return s.checkNotMerged()
	}
	image, err := s.openVerified(ctx, s.imagePath(r.State.Version), r.Progress)
	if err != nil {
		return err
	}
	defer image.Close()
	// Not taken back: where nothing is to be merged it does nothing.
	if err := s.touch("enable merging", func() error { return s.Systemd.Enable(ctx, sysextUnit) }); err != nil {
		return fmt.Errorf("have extensions merged at every boot: %w", err)
	}
	if err := s.touch("swing link", func() error { return s.linkVerified(image, r.State.Version) }); err != nil {
		return err
	}
	if err := s.refresh(ctx, r, "refresh"); err != nil {
		return err
	}
	if err := s.checkMerged(image); err != nil {
		return err
	}
	// Once more from where it will run: what the overlay or the policy of the host
	// forbid shows before the daemon that works has stopped, and the new one is in
	// memory when callers wait for it.
	return s.probeDaemon(ctx, r, filepath.Join(s.Root, extension.OwnDaemon))
}

// deactivate puts the link back and has systemd merge what it pointed to before.
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
		err := s.touch("swing back", func() error { return s.setLink(back) })
		if err != nil {
			return err
		}
	}
	if merged, err := s.mergedVersion(); err == nil && merged == s.versionOfLink(back) {
		return nil
	}
	return s.refresh(ctx, r, "refresh back")
}

// undoLink is where the link has to point to again: where it pointed before, or
// nowhere, to the base, when the image there is damaged, so that systemd could not
// merge it. Who signed it, and when, does not count: it was in service.
func (s *Service) undoLink(ctx context.Context, r *opRun) (string, error) {
	link := r.State.Previous.Link
	v := versionOfImage(link)
	if link == "" || link != s.linkTo(v) {
		return link, nil
	}
	damage := s.checkIntact(ctx, v)
	if damage == nil || ctx.Err() != nil {
		return link, ctx.Err()
	}
	base, err := rescue.BaseVersion(s.Root)
	if err != nil || base == "" {
		return link, nil // nothing else to return to
	}
	r.Logf(slog.LevelWarn, "the image of trident %s is damaged, so the base, %s, comes back in its place: %v", v, base, damage)
	return "", nil
}

// failureReason is why an operation turned back, for the rescuer's record.
func (s *Service) failureReason(id string) string {
	op, err := s.Runner.Get(context.Background(), id)
	if err != nil || op.Failure == nil {
		return "it was taken back"
	}
	return op.Failure.Message
}

// refresh asks PID 1 to have systemd-sysext merge anew. It does so in a mount
// namespace and a cgroup that are not ours, and one at a time.
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

// updateTrial notes in the rescuer's record how far the trial is, unless the target was
// given up.
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

// restartInto has systemd replace this process by the target. The socket stays
// with systemd meanwhile, so nobody is refused.
func (s *Service) restartInto(ctx context.Context, r *opRun) error {
	err := s.updateTrial(r, "mark restarting", func(t *rescue.Record) { t.Restarting = true })
	if err != nil || s.Version == r.State.Version {
		return err
	}
	return s.restart(ctx, "restart")
}

// restartBack has systemd replace this process by the version that began it all.
func (s *Service) restartBack(ctx context.Context, r *opRun) error {
	if !r.State.Activated || s.Version == r.State.From {
		return nil
	}
	return s.restart(ctx, "restart back")
}

func (s *Service) restart(ctx context.Context, name string) error {
	// systemd may stop us before we have read its answer; the answer counts all
	// the same, so that the journal says what is waited for.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restartTimeout)
	defer cancel()
	if err := s.touch(name, func() error { return s.Systemd.Restart(ctx, daemonUnit) }); err != nil {
		return err
	}
	return operation.ErrRestart
}

// checkNotMerged makes sure that our extension is gone from /usr.
func (s *Service) checkNotMerged() error {
	names, err := extension.Merged(s.Root)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == extension.Own {
			return errkind.Errorf(errkind.Internal, "the extension is still merged after systemd has refreshed")
		}
	}
	return nil
}
