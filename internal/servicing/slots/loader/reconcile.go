package loader

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
)

// Reconcile gives each member of the host's ESP the boot entries of the installation with
// that index; see [boot.Reconcile]. gone are the UUIDs of partitions. It does nothing if the ESP is not an array.
func (l *Loader) Reconcile(ctx context.Context, c *hostconfig.Config, paths map[string]string, index int, gone []string) error {
	spec := &c.Spec().Storage
	id := record.ESPID(spec)
	isArray := false
	for _, r := range spec.RAID.Software {
		isArray = isArray || r.ID == id
	}
	if !isArray {
		return nil
	}
	device, err := storage.Device(spec, paths, slot.A, id)
	if err != nil {
		return err
	}
	members, err := l.Machine.ESP(device)
	if err != nil {
		return err
	}
	vars, err := l.Machine.Firmware()
	if err != nil {
		return err
	}
	at := filepath.Join(l.Root, espRoot)
	return l.Machine.WithMount(l.Touch, device, "vfat", at, func() error {
		return boot.Reconcile(ctx, boot.Host{ESP: at, Members: members, Vars: vars, Arch: boot.Arch(l.Machine.Arch), Index: index, Touch: l.Touch}, gone)
	})
}

// CompareESP warns if the members of the ESP of a configuration differ, or cannot be
// compared. It does nothing if the ESP is not an array.
func (l *Loader) CompareESP(ctx context.Context, log change.Logger, c *hostconfig.Config, paths map[string]string) {
	spec := &c.Spec().Storage
	device, err := storage.Device(spec, paths, slot.A, record.ESPID(spec))
	if err != nil {
		return // a host without an ESP
	}
	switch differ, err := l.Machine.CompareESP(ctx, device); {
	case err != nil:
		log.Logf(slog.LevelWarn, "the members of the EFI system partition were not compared: %v", err)
	case differ > 0:
		log.Logf(slog.LevelWarn, "the members of the EFI system partition %s differ in %d bytes: something has written to one of them alone. To copy the first member to the others: mdadm --action=repair %s", device, differ, device)
	}
}
