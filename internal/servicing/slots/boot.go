package slots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
)

// beginFinalize begins to finalize what was staged, by this operation or one before: the
// slot must still be the one that does not run, and have boot files.
func (s *Service) beginFinalize(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	running, err := s.running(&c.Spec().Storage, toMap(r.State.Paths))
	if err != nil {
		return err
	}
	if running == r.State.Slot {
		err := errkind.Errorf(errkind.Precondition, "this host runs from %s, which was to be booted", running)
		return errkind.WithName(err, errkind.NameRootDevicePathAbActiveVolumeMismatch)
	}
	return s.withLoader(r, c, func(l keeper) error {
		st, err := l.Entries(ctx)
		if err != nil {
			return err
		}
		if st.Staged != r.State.Slot && st.Names.Of(r.State.Slot) == "" {
			err := errkind.Errorf(errkind.Precondition, "nothing on the EFI system partition boots %s", r.State.Slot)
			return errkind.WithHint(errkind.WithName(err, errkind.NameFindStagedFile), "Stage it again.")
		}
		return nil
	})
}

// running is the slot that this host runs from, going by what the kernel has mounted
// as its root; none where that is neither.
func (s *Service) running(spec *hostconfig.Storage, paths map[string]string) (slot.Slot, error) {
	inv, err := s.Machine.Inventory()
	if err != nil {
		return 0, err
	}
	slots := []slot.Slot{slot.A, slot.B}
	if _, pair := storage.Pairs(spec)[rootID(spec)]; !pair {
		slots = slots[:1]
	}
	for _, in := range slots {
		dev, err := storage.Device(spec, paths, in, rootID(spec))
		if err != nil {
			return 0, err
		}
		if p, ok := inv.Partition(dev); ok && isRoot(p) {
			return in, nil
		}
	}
	return 0, nil
}

func isRoot(p *blockdev.Partition) bool { return slices.Contains(p.Use.Mounts, "/") }

// try arranges the trial of the slot. For an installation there is no system that
// could stay the default; and from here on the power may go and the new system come
// up, so it is told before.
func (s *Service) try(ctx context.Context, r *opRun) error {
	p, err := r.State.prove()
	if r.State.Purpose == goesBack {
		p, err = r.State.wasKept(), nil
	}
	if err != nil {
		return err
	}
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	if err := s.Touch("remove evidence", func() error { return osconfig.Remove(s.Root, "/"+evidenceFile) }); err != nil {
		return err
	}
	if r.State.Purpose == installs {
		over, err := s.informInstalled(ctx, r, c)
		if err != nil || over {
			return err
		}
	}
	err = s.withEntry(ctx, r, c, p, func(l boot.Loader) error {
		if err := l.Try(ctx, r.State.Slot); err != nil || r.State.Purpose != installs {
			return err
		}
		return l.Keep(ctx, r.State.Slot)
	})
	if err != nil || r.State.Purpose == installs {
		return err
	}
	return s.recordTrying(ctx, r)
}

// informInstalled gives the system that is installed the status, the record and the logs
// of this host. It is over if the installed system runs already.
func (s *Service) informInstalled(ctx context.Context, r *opRun, c *hostconfig.Config) (over bool, err error) {
	running, err := s.running(&c.Spec().Storage, toMap(r.State.Paths))
	if err != nil || running == r.State.Slot {
		return true, err
	}
	r.State.RebootFrom = s.Runner.Life.Boot
	if err := s.recordTrying(ctx, r); err != nil {
		return false, err
	}
	if err := r.Save(ctx); err != nil {
		return false, err
	}
	if c.Spec().Trident.Disable { // nobody there is to know
		return false, nil
	}
	return false, s.handOver(ctx, r)
}

// forget is the Undo of what boots the slot: it removes that. What is installed, once it
// was booted, is not the installer's any more.
func (s *Service) forget(ctx context.Context, r *opRun) error {
	if r.State.Purpose == installs && (!r.State.Partitioned || s.hasRebooted(r)) {
		return nil
	}
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	return s.withLoaderToUndo(r, c, func(l keeper, _ bool) error { return l.Forget(ctx, r.State.Slot) })
}

// hasRebooted reports whether the host has rebooted for this operation.
func (s *Service) hasRebooted(r *opRun) bool {
	return r.State.RebootFrom != "" && r.State.RebootFrom != s.Runner.Life.Boot
}

// endTrial makes the slot that the host runs from the only one that boots, and
// leaves what the other has.
func (s *Service) endTrial(ctx context.Context, r *opRun) error {
	if r.State.Purpose == installs {
		return nil
	}
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	return s.withLoaderToUndo(r, c, func(l keeper, hasVars bool) error {
		if !hasVars {
			return nil
		}
		return l.Keep(ctx, r.State.Slot.Other())
	})
}

// unknownBoot stands for a boot whose ID no release has recorded.
const unknownBoot = "unknown"

// reboot reboots the host into the new system. The new system may run already, if the
// power failed before the journal had the end of this step.
func (s *Service) reboot(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	running, err := s.running(&c.Spec().Storage, toMap(r.State.Paths))
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

func (s *Service) askReboot(r *opRun, into string) error {
	if r.State.CallerReboots && !s.reboots.Load() {
		r.Logf(slog.LevelInfo, "reboot this host: it boots into %s then", into)
		return operation.ErrReboot
	}
	r.Logf(slog.LevelInfo, "Requesting reboot into %s", into) // upstream's tests wait for the first two words
	return operation.RequestReboot(s.rebootHost)
}

// rebootTime bounds the request of a reboot; systemd may stop us before we have its
// answer.
const rebootTime = 10 * time.Second

func (s *Service) rebootHost(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rebootTime)
	defer cancel()
	return errkind.WithName(s.Touch("reboot", func() error { return s.Systemd.Reboot(ctx) }), errkind.NameReboot)
}

// handOver gives what this host knows to the one that is installed, which goes on
// with this very operation.
func (s *Service) handOver(ctx context.Context, r *opRun) error {
	return s.withTree(ctx, r, false, func(c *hostconfig.Config, root string) error {
		store, mark, err := inheritedFiles(c, root)
		if err != nil {
			return err
		}
		err = s.Touch("hand over", func() error {
			if err := errors.Join(s.Store.Snapshot(ctx, store), os.WriteFile(mark, nil, 0o600)); err != nil {
				return err
			}
			return errors.Join(osconfig.Inherit(store), osconfig.Inherit(mark)) // "labels" was before
		})
		if err != nil {
			return errkind.WithName(fmt.Errorf("hand the datastore over: %w", err), errkind.NameDatastore)
		}
		if err := s.Touch("hand over logs", func() error { return s.HandOverLogs(ctx, r.ID, filepath.Dir(store)) }); err != nil {
			r.Logf(slog.LevelWarn, "the new system does not get the logs: %v", err)
		}
		return nil
	})
}

// inheritedFiles are the files of the OS in a tree that take up what this host knows; their
// folders are made.
func inheritedFiles(c *hostconfig.Config, root string) (store, mark string, err error) {
	at := c.Spec().Trident.DatastorePath
	if at == "" {
		at = hoststate.DefaultPath
	}
	if store, err = inOwnFolder(root, at); err != nil {
		return "", "", err
	}
	mark, err = inOwnFolder(root, "/"+change.UnsettledMark)
	return store, mark, err
}

// inOwnFolder is where a file of a tree is on this host; its folder, which only root may
// change, is made where it is missing.
func inOwnFolder(root, name string) (string, error) {
	dir, err := inroot.FS(root).MakeDir(filepath.Dir(name), 0o755)
	if err != nil {
		return "", err
	}
	at, err := dir.OnHost()
	return filepath.Join(at, filepath.Base(name)), errors.Join(err, dir.Close())
}

// returnToOld is the Undo of the reboot: it reboots the host again. The old system is
// still the default boot entry, so the firmware boots the old system.
func (s *Service) returnToOld(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil || r.State.Purpose == installs {
		return err
	}
	running, err := s.running(&c.Spec().Storage, toMap(r.State.Paths))
	if err != nil || running != r.State.Slot {
		return err
	}
	op, err := s.Runner.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	if r.State.Purpose != goesBack {
		last := change.LastErrorOf(op)
		err := s.RecordStatus(ctx, "record unhealthy", func(st *hoststate.Status) {
			st.Phase, st.LastError = hoststate.TryingABUpdateFailed, last
		})
		if err != nil {
			return err
		}
	}
	return s.askReboot(r, "the system that was there before")
}

// booted looks which system has come up.
func (s *Service) booted(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	running, err := s.running(&c.Spec().Storage, toMap(r.State.Paths))
	if err != nil {
		return err
	}
	if running == r.State.Slot {
		r.Logf(slog.LevelInfo, "the host runs from %s", running)
		return nil
	}
	wanted, err := storage.Device(&c.Spec().Storage, toMap(r.State.Paths), r.State.Slot, rootID(&c.Spec().Storage))
	if err != nil {
		return err
	}
	r.State.BootedFrom, r.State.BootedWanted = s.rootDevice(), wanted
	// The beginning, up to the devices, is upstream's text: its tests search for it.
	name, what := errkind.NameAbUpdateRebootCheck, "A/B update"
	cause := "the new system in " + r.State.Slot.String() + " did not boot, or did not confirm itself in time, and the one before runs again"
	switch {
	case r.State.Purpose == installs:
		name, what, cause = errkind.NameCleanInstallRebootCheck, "Clean install", "the host has booted something else than what was installed"
	case r.State.Purpose == goesBack:
		name, what, cause = errkind.NameManualRollbackRebootCheck, "Manual rollback", "the host has booted something else than the system in "+r.State.Slot.String()
	}
	what += fmt.Sprintf(" failed as host booted from '%s' instead of the expected device '%s': %s", r.State.BootedFrom, wanted, cause)
	if said := s.evidence(); said != "" {
		r.Logf(slog.LevelError, "the last that the new system"+hooks.SaidMark+"%s", said)
		what += "; the end of its journal is in the log of this operation"
	}
	return errkind.WithName(errkind.Errorf(errkind.Unhealthy, "%s", what), name)
}

// rootDevice is the device that has the root file system of this host.
func (s *Service) rootDevice() string {
	inv, err := s.Machine.Inventory()
	if err != nil {
		return "unknown"
	}
	for _, d := range inv.Disks {
		for i := range d.Partitions {
			if isRoot(&d.Partitions[i]) {
				return d.Partitions[i].Path
			}
		}
	}
	return "unknown"
}

// health runs the health checks, in the new system. After a rollback by command
// there is nothing to go back to.
func (s *Service) health(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil || r.State.Purpose == goesBack {
		return err
	}
	if err := s.booted(ctx, r); err != nil { // the power went meanwhile
		return err
	}
	return hooks.CheckHealth(ctx, s.Host, r, r.ID, c.Spec().Health, r.State.Purpose.on())
}

// settle makes the system that runs the default. From then on nothing can be taken
// back, so the rest is tried until it works. When the power went before, the system
// that was the default has come up, and the trial has failed.
func (s *Service) settle(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	if err := s.booted(ctx, r); err != nil {
		return err
	}
	if err := s.withLoader(r, c, func(l keeper) error { return l.Keep(ctx, r.State.Slot) }); err != nil {
		return err
	}
	if r.State.Purpose != goesBack {
		c = change.WithPlaces(c, r.State.Extensions.New)
	}
	_, pairs := storage.Pairs(&c.Spec().Storage)[rootID(&c.Spec().Storage)]
	err = s.RecordSettled(ctx, r, c, true, func(st *hoststate.Status) { st.ABActiveVolume = volumeOf(r.State.Slot, pairs) })
	if err != nil {
		return err
	}
	r.State.Ended = s.Runner.Life.Boot
	if err := s.removeGuard(ctx); err != nil {
		r.Logf(slog.LevelWarn, "remove what watched over the trial: %v", err)
	}
	s.Tidy(ctx, r, c)
	return nil
}

// decided prevents that a system is left that runs and is the default. An installation
// made it the default before it had run.
func (s *Service) decided(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil || r.State.Purpose == installs {
		return err
	}
	running, err := s.running(&c.Spec().Storage, toMap(r.State.Paths))
	if err != nil || running != r.State.Slot {
		return err
	}
	return s.withLoaderToUndo(r, c, func(l keeper, _ bool) error {
		st, err := l.Entries(ctx)
		if err == nil && st.Default == r.State.Slot {
			err = fmt.Errorf("%s is what boots: %w", r.State.Slot, operation.ErrDecided)
		}
		return err
	})
}

// checkRollback checks that there is something to go back to.
func (s *Service) checkRollback(ctx context.Context, r *opRun) error {
	for _, why := range r.State.Reasons {
		r.Logf(slog.LevelInfo, "%s", why)
	}
	return s.beginFinalize(ctx, r)
}

// checkRoot says whether the volume that is booted is the one that is recorded.
func (s *Service) checkRoot(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	running, err := s.running(&c.Spec().Storage, toMap(r.State.Paths))
	if err != nil {
		return err
	}
	if running != r.State.Slot {
		what := "another device than the host status has"
		if running.Valid() {
			what = running.String()
		}
		err := errkind.Errorf(errkind.Precondition, "the host runs from %s, and by its status it is to run from %s", what, r.State.Slot)
		return errkind.WithName(err, errkind.NameRootDevicePathAbActiveVolumeMismatch)
	}
	r.Logf(slog.LevelInfo, "the host runs from %s, as its status says", running)
	return nil
}
