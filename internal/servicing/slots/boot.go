package slots

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/servicing/slots/loader"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
)

// beginFinalize fails if the host runs from the slot to try, or if the slot has no boot
// files.
func (s *Service) beginFinalize(ctx context.Context, r *record.Run) error {
	c, running, err := s.runningSlot(r)
	if err != nil {
		return err
	}
	if running == r.State.Slot {
		err := errkind.Errorf(errkind.Precondition, "this host already runs from %s, the slot to boot", running)
		return errkind.WithName(err, errkind.NameRootDevicePathAbActiveVolumeMismatch)
	}
	return s.loader.With(r, c, func(l loader.Keeper) error {
		st, err := l.Entries(ctx)
		if err != nil {
			return err
		}
		if st.Staged != r.State.Slot && st.Names.Of(r.State.Slot) == "" {
			err := errkind.Errorf(errkind.Precondition, "the EFI system partition has no boot files of %s", r.State.Slot)
			return errkind.WithHint(errkind.WithName(err, errkind.NameFindStagedFile), "Stage it again.")
		}
		return nil
	})
}

// runningSlot returns the configuration of an operation, and the slot that the host runs
// from as running does.
func (s *Service) runningSlot(r *record.Run) (c *hostconfig.Config, active slot.Slot, err error) {
	if c, err = r.State.Config(); err != nil {
		return nil, 0, err
	}
	active, err = s.loader.Running(c, r.State.Paths)
	return c, active, err
}

// try makes the next boot a trial of the slot. An installed slot also becomes the default,
// since there is no old system. try hands over an installation before it changes the boot,
// because a power cut may then boot the new system. If that runs already, try leaves the boot
// alone: a second trial would begin at the next reboot, which is to end this one.
func (s *Service) try(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	p, err := r.State.Prove()
	if r.State.Purpose == record.GoesBack {
		p, err = r.State.WasKept(), nil
	}
	if err != nil {
		return err
	}
	if err := s.newOS.RemoveEvidence(); err != nil {
		return err
	}
	running, err := s.loader.Running(c, r.State.Paths)
	if err != nil {
		return err
	}
	isTried := running == r.State.Slot
	if r.State.Purpose == record.Installs {
		if isTried {
			return nil
		}
		if err := s.informInstalled(ctx, r, c); err != nil {
			return err
		}
		return s.loader.Try(ctx, r, c, p)
	}
	if !isTried {
		if err := s.loader.Try(ctx, r, c, p); err != nil {
			return err
		}
	}
	return s.recordTrying(ctx, r)
}

// informInstalled records the trial, and copies the datastore and the logs into the installed
// system.
func (s *Service) informInstalled(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	r.State.RebootFrom = s.Runner.Life.Boot
	if err := s.recordTrying(ctx, r); err != nil {
		return err
	}
	if err := r.Save(ctx); err != nil {
		return err
	}
	if c.Spec().Trident.Disable { // the new system has no datastore
		return nil
	}
	return s.newOS.HandOver(ctx, r)
}

// forget is the Undo of steps that make the slot bootable: it removes the boot files and
// the boot entry. It leaves an installed system alone once the host has rebooted.
func (s *Service) forget(ctx context.Context, r *record.Run) error {
	if r.State.Purpose == record.Installs && (!r.State.Partitioned || r.State.HasRebooted(s.Runner.Life.Boot)) {
		return nil
	}
	c, err := r.State.Config()
	if err != nil {
		return err
	}
	return s.loader.WithToUndo(r, c, func(l loader.Keeper, _ bool) error { return l.Forget(ctx, r.State.Slot) })
}

// endTrial makes the old slot the default and ends the trial. The tried slot keeps its boot
// files. endTrial ignores an installation, and a host without access to firmware variables.
func (s *Service) endTrial(ctx context.Context, r *record.Run) error {
	if r.State.Purpose == record.Installs {
		return nil
	}
	c, err := r.State.Config()
	if err != nil {
		return err
	}
	return s.loader.WithToUndo(r, c, func(l loader.Keeper, hasVars bool) error {
		if !hasVars {
			return nil
		}
		return l.Keep(ctx, r.State.Slot.Other())
	})
}

// unknownBoot is RebootFrom if the ID of that boot was not recorded.
const unknownBoot = "unknown"

// reboot reboots the host into the new system. The new system may run already, if the
// power failed before the journal had the end of this step.
func (s *Service) reboot(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	running, err := s.loader.Running(c, r.State.Paths)
	if err != nil {
		return err
	}
	now := s.Runner.Life.Boot
	if r.State.RebootFrom == "" {
		r.State.RebootFrom = now
		if running == r.State.Slot {
			r.State.RebootFrom = unknownBoot
		}
		if err := s.Touch("note reboot", func() error { return r.Save(ctx) }); err != nil {
			return err
		}
	}
	if r.State.RebootFrom != now {
		return nil
	}
	return s.askReboot(r, "the new system")
}

func (s *Service) askReboot(r *record.Run, into string) error {
	if r.State.CallerReboots && !s.reboots.Load() {
		r.Logf(slog.LevelInfo, "reboot this host: it boots into %s then", into)
		return operation.ErrReboot
	}
	r.Logf(slog.LevelInfo, "Requesting reboot into %s", into) // upstream's tests wait for the first two words
	return operation.RequestReboot(s.Reboot)
}

// returnToOld is the Undo of the reboot: it reboots the host again. The old system is
// still the default boot entry, so the firmware boots the old system.
func (s *Service) returnToOld(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	if r.State.Purpose == record.Installs {
		return nil
	}
	running, err := s.loader.Running(c, r.State.Paths)
	if err != nil || running != r.State.Slot {
		return err
	}
	op, err := s.Runner.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	if r.State.Purpose != record.GoesBack {
		last := change.LastErrorOf(op)
		err := s.RecordStatus(ctx, "record unhealthy", func(st *hoststate.Status) {
			st.Phase, st.LastError = hoststate.TryingABUpdateFailed, last
		})
		if err != nil {
			return err
		}
	}
	return s.askReboot(r, "the previous system")
}

// booted fails if the host has not booted the slot of the operation.
func (s *Service) booted(ctx context.Context, r *record.Run) error {
	c, running, err := s.runningSlot(r)
	if err != nil {
		return err
	}
	if running == r.State.Slot {
		r.Logf(slog.LevelInfo, "the host runs from %s", running)
		return nil
	}
	wanted, err := r.State.Path(c, record.RootID(&c.Spec().Storage))
	if err != nil {
		return err
	}
	r.State.BootedFrom, r.State.BootedWanted = s.loader.RootDevice(), wanted
	// The beginning, up to the devices, is upstream's text: its tests search for it.
	name, what := errkind.NameAbUpdateRebootCheck, "A/B update"
	cause := "the new system in " + r.State.Slot.String() + " did not boot, or did not confirm itself in time, and the previous system runs again"
	switch {
	case r.State.Purpose == record.Installs:
		name, what, cause = errkind.NameCleanInstallRebootCheck, "Clean install", "the host has not booted the installed system"
	case r.State.Purpose == record.GoesBack:
		name, what, cause = errkind.NameManualRollbackRebootCheck, "Manual rollback", "the host has not booted the system in "+r.State.Slot.String()
	}
	what += fmt.Sprintf(" failed as host booted from '%s' instead of the expected device '%s': %s", r.State.BootedFrom, wanted, cause)
	if said := s.newOS.Evidence(); said != "" {
		r.Logf(slog.LevelError, "the last that the new system"+hooks.SaidMark+"%s", said)
		what += "; the end of its journal is in the log of this operation"
	}
	return errkind.WithName(errkind.Errorf(errkind.Unhealthy, "%s", what), name)
}

// health runs the health checks in the new system. A rollback by command runs none: there is
// no system to return to.
func (s *Service) health(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	if r.State.Purpose == record.GoesBack {
		return nil
	}
	if err := s.booted(ctx, r); err != nil { // after a power cut in this step
		return err
	}
	return hooks.CheckHealth(ctx, s.Host, r, r.ID, c.Spec().Health, r.State.Purpose.On())
}

// settle makes the running system the default. Nothing can undo that, so settle then tries
// to record the status until that works. After an earlier power cut the old system runs, and
// settle fails.
func (s *Service) settle(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	if err := s.booted(ctx, r); err != nil {
		return err
	}
	if err := s.loader.With(r, c, func(l loader.Keeper) error { return l.Keep(ctx, r.State.Slot) }); err != nil {
		return err
	}
	if r.State.Purpose != record.GoesBack {
		c = change.WithPlaces(c, r.State.Extensions.New)
	}
	err := s.RecordSettled(ctx, r, c, true, func(st *hoststate.Status) {
		st.ABActiveVolume = volumeOf(r.State.Slot, record.RootIsPair(&c.Spec().Storage))
	})
	if err != nil {
		return err
	}
	r.State.Ended = s.Runner.Life.Boot
	if err := s.newOS.RemoveGuard(ctx); err != nil {
		r.Logf(slog.LevelWarn, "remove the guard of the trial: %v", err)
	}
	s.loader.CompareESP(ctx, r, c, r.State.Paths.Map())
	s.Tidy(ctx, r, c)
	return nil
}

// decided is the Undo of settle. It returns ErrDecided if the running system is already the
// default. It ignores an installation, which makes its slot the default before it runs.
func (s *Service) decided(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	if r.State.Purpose == record.Installs {
		return nil
	}
	running, err := s.loader.Running(c, r.State.Paths)
	if err != nil || running != r.State.Slot {
		return err
	}
	return s.loader.WithToUndo(r, c, func(l loader.Keeper, _ bool) error {
		st, err := l.Entries(ctx)
		if err == nil && st.Default == r.State.Slot {
			err = fmt.Errorf("%s is the default boot entry: %w", r.State.Slot, operation.ErrDecided)
		}
		return err
	})
}

// checkRollback checks that the other slot can boot.
func (s *Service) checkRollback(ctx context.Context, r *record.Run) error {
	for _, why := range r.State.Reasons {
		r.Logf(slog.LevelInfo, "%s", why)
	}
	return s.beginFinalize(ctx, r)
}

// checkRoot fails if the host does not run from the recorded slot.
func (s *Service) checkRoot(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	running, err := s.loader.Running(c, r.State.Paths)
	if err != nil {
		return err
	}
	if running != r.State.Slot {
		what := "a device that is not in the host status"
		if running.Valid() {
			what = running.String()
		}
		err := errkind.Errorf(errkind.Precondition, "the host runs from %s, but its status says %s", what, r.State.Slot)
		return errkind.WithName(err, errkind.NameRootDevicePathAbActiveVolumeMismatch)
	}
	r.Logf(slog.LevelInfo, "the host runs from %s, as its status says", running)
	return nil
}
