package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// Check unpacks the boot files of the image, and checks that the firmware and the ESP
// accept them.
func (l *Loader) Check(ctx context.Context, r *record.Run, e *record.Examined) error {
	vars, err := l.Machine.Firmware()
	if err != nil {
		return errkind.WithName(err, errkind.NameReadEfiVariable)
	}
	if err := l.Disks.UnpackBoot(ctx, r, e); err != nil {
		return err
	}
	payload, done, err := l.payload(r, e.Config, "")
	if err != nil {
		return err
	}
	defer func() { _ = done() }()
	if err := checkBootType(r, e); err != nil {
		return err
	}
	e.Uname, e.Cmdline = payload.UKI().Uname, payload.UKI().Cmdline
	host := boot.Host{Members: newMembers(&e.Config.Spec().Storage), Vars: vars, Arch: boot.Arch(l.Machine.Arch), Index: r.State.Index, Fallback: boot.Fallback(e.Config.Spec().OS.UEFIFallback)}
	target, err := e.Plan.Target(record.ESPID(&e.Config.Spec().Storage))
	if err != nil {
		return err
	}
	files, room := fs.FS(emptyFS{}), roomOfNewESP(target.Size)
	if target.Action != storage.Create {
		if host.Members, err = l.Machine.ESP(target.Path); err != nil {
			return err
		}
		var closeFiles func() error
		if files, room, closeFiles, err = l.Machine.ESPNow(target.Path); err != nil {
			return err
		}
		defer func() { _ = closeFiles() }()
		if r.State.Purpose == record.Installs {
			if host.Index, err = boot.FreeIndex(files); err != nil {
				return err
			}
		} else if has := boot.KindOf(files, host.Index); string(has) != r.State.Bootloader {
			err := errkind.Errorf(errkind.Incompatible, "the image boots by %s, and this host by %s: an update cannot change the boot loader", r.State.Bootloader, has)
			return errkind.WithName(errkind.WithHint(err, "Use an image with %s, or install the host again.", has), errkind.NameInvalidBootConfiguration)
		}
	}
	warnings, err := boot.Preflight(ctx, host, files, room, r.State.Slot, payload)
	if err != nil {
		return err
	}
	if pairs := storage.Pairs(&e.Config.Spec().Storage); len(pairs) > 0 {
		for _, w := range warnings {
			r.Logf(slog.LevelWarn, "%s", w)
		}
	}
	return l.probeFirmware(ctx, r, host, files, payload)
}

// payload opens the unpacked boot files of the image; config is the configuration of GRUB for
// the slot, or "" before that is known. The caller calls done after their last use.
func (l *Loader) payload(r *record.Run, c *hostconfig.Config, config string) (_ *boot.Payload, done func() error, err error) {
	f, err := l.Disks.OpenESP(r)
	if err != nil {
		return nil, nil, err
	}
	end := f.Close
	defer func() {
		if err != nil {
			err = errors.Join(err, end())
		}
	}()
	files, closeFiles, err := l.Machine.ESPFiles(f)
	if err != nil {
		return nil, nil, errkind.WithName(fmt.Errorf("read the image's boot files: %w", err), errkind.NameDeployESPImages)
	}
	end = func() error { return errors.Join(closeFiles(), f.Close()) }
	var payload *boot.Payload
	if r.State.Bootloader == string(boot.Grub) {
		payload, err = boot.ReadGrub(files, boot.Arch(l.Machine.Arch), config, change.Flag(c, paramAnyGrub))
	} else {
		payload, err = boot.Read(files, boot.Arch(l.Machine.Arch))
	}
	if err != nil {
		return nil, nil, errkind.WithName(fmt.Errorf("read the image's boot files: %w", err), errkind.NameInvalidBootConfiguration)
	}
	return payload, end, nil
}

// probeFirmware checks that firmware which does not report its free room takes the
// variables of a trial: it sets one and deletes it. A rehearsal skips this.
func (l *Loader) probeFirmware(ctx context.Context, r *record.Run, host boot.Host, files fs.FS, payload *boot.Payload) error {
	_, known, err := host.Vars.Room()
	if err != nil || known || l.IsRehearsal() {
		return err
	}
	need, err := boot.VariableNeed(ctx, host, files, r.State.Slot, payload)
	if err != nil {
		return err
	}
	if err := l.Touch("probe firmware", func() error { return efivar.Probe(host.Vars, need) }); err != nil {
		return errkind.WithName(fmt.Errorf("find out whether the firmware takes boot entries: %w", err), errkind.NameSetEfiVariable)
	}
	return nil
}

// newMembers returns as many members as the ESP of a configuration will have. Their places
// are not known yet; their boot entries will take the same room.
func newMembers(s *hostconfig.Storage) []efivar.HardDrive {
	for _, r := range s.RAID.Software {
		if r.ID == record.ESPID(s) {
			return make([]efivar.HardDrive, len(r.Devices))
		}
	}
	return make([]efivar.HardDrive, 1)
}

// roomOfNewESP returns the room for files in a new FAT file system of size bytes: its
// tables take less than one in sixty-four.
func roomOfNewESP(size int64) boot.Space {
	return boot.Space{Free: max(0, size-size/64), Block: 4096}
}

// emptyFS is a file system without files.
type emptyFS struct{}

func (emptyFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
