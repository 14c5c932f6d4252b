// Package machine gives access to the disks, the firmware, the mounts and the memory of a
// host.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/fat"
	"github.com/trident-project/trident/internal/linux/loop"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/linux/mount"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/storage"
)

// Machine gives access to the disks, the firmware, the mounts and the memory of a host.
// Real returns that of a real host.
type Machine struct {
	Inventory func() (*blockdev.Inventory, error)
	Disks     storage.Tools // Open is set
	Mounts    mount.Mounter
	// Firmware opens the variables that decide what boots. If the host has not booted by
	// UEFI the error is of kind Precondition.
	Firmware func() (efivar.Store, error)
	// ESPFiles opens the files in an image of an ESP. The caller must not change the image
	// before close.
	ESPFiles func(image *os.File) (files fs.FS, close func() error, err error)
	// ESPNow opens the present files of the ESP on a device, without a mount, and returns
	// its free room.
	ESPNow func(device string) (files fs.FS, room boot.Space, close func() error, err error)
	// Tree mounts the file system in an image, read-only, on a folder that only this process
	// sees. If the kernel cannot mount it, the error is of kind Unsupported. Tree may be nil.
	Tree func(image *os.File, fstype string) (root string, close func() error, err error)
	// Memory returns how many bytes of memory this process can take, if that is known.
	// Memory may be nil.
	Memory func() (bytes int64, known bool)
	// Arch is Go's name of the architecture.
	Arch string
}

// Real returns the machine of a host with the root folder root, usually "/".
func Real(root, arch string) Machine {
	return Machine{
		Inventory: func() (*blockdev.Inventory, error) { return blockdev.Read(root) },
		Disks:     storage.HostTools(root),
		Mounts:    mount.Host{},
		Firmware:  func() (efivar.Store, error) { return efivar.Open(filepath.Join(root, efivar.DefaultDir)) },
		ESPFiles:  openESP,
		ESPNow:    espNow,
		Tree:      openTree,
		Memory: func() (int64, bool) {
			debug.FreeOSMemory() // of an earlier image
			return hostinfo.AvailableMemory(root)
		},
		Arch: arch,
	}
}

func openESP(image *os.File) (fs.FS, func() error, error) {
	info, err := image.Stat()
	if err != nil {
		return nil, nil, err
	}
	m, err := loop.Open(image, 0, info.Size(), "vfat")
	if err != nil {
		return nil, nil, err
	}
	return m, m.Close, nil
}

func openTree(image *os.File, fstype string) (string, func() error, error) {
	info, err := image.Stat()
	if err != nil {
		return "", nil, err
	}
	m, err := loop.Open(image, 0, info.Size(), fstype)
	if err != nil {
		return "", nil, err
	}
	return m.Path(), m.Close, nil
}

func espNow(device string) (_ fs.FS, room boot.Space, close func() error, err error) {
	f, err := os.Open(device)
	if err != nil {
		return nil, room, nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		room.Free, room.Block, err = fat.Room(f, size)
	}
	var files fs.FS
	if err == nil {
		files, err = fat.Open(f, size)
	}
	if err != nil {
		return nil, room, nil, errors.Join(fmt.Errorf("read the EFI system partition %s: %w", device, err), f.Close())
	}
	return files, room, f.Close, nil
}

// Available is Memory, which may be nil.
func (m Machine) Available() (int64, bool) {
	if m.Memory == nil {
		return 0, false
	}
	return m.Memory()
}

// FSType returns the type of the file system on a device.
func (m Machine) FSType(device string) (string, error) {
	content, err := m.Content(device)
	return content.Type, err
}

// Content returns the type, the UUID and the label of the file system on a device.
func (m Machine) Content(device string) (blockdev.Content, error) {
	dev, err := m.Disks.Open(device, false)
	if err != nil {
		return blockdev.Content{}, err
	}
	content := blockdev.Probe(dev, dev.Size())
	if err := dev.Close(); err != nil {
		return blockdev.Content{}, err
	}
	if content.Type == "" {
		return content, fmt.Errorf("%s has no known file system", device)
	}
	return content, nil
}

// ESP returns the ESP on a device in the form that boot entries use: of an array, the members
// that are in sync, in the order of their slots. A member whose disk has just gone is left out
// as long as there is another one.
func (m Machine) ESP(device string) ([]efivar.HardDrive, error) {
	inv, err := m.Inventory()
	if err != nil {
		return nil, err
	}
	devices := []string{device}
	if name, ok := strings.CutPrefix(device, md.Folder); ok {
		if devices, err = m.inSync(name); err != nil {
			return nil, fmt.Errorf("find the EFI system partition %s: %w", device, err)
		}
	}
	var out []efivar.HardDrive
	for _, d := range devices {
		if drive, ok := hardDrive(inv, d); ok {
			out = append(out, drive)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("find the EFI system partition %s: no disk of this host has it", device)
	}
	return out, nil
}

// inSync returns the members of an array that are in sync, by their slots.
func (m Machine) inSync(name string) ([]string, error) {
	a, err := m.array(context.Background(), name)
	if err != nil {
		return nil, err
	}
	members := slices.DeleteFunc(a.Members, func(d md.Member) bool { return !d.InSync || d.Slot < 0 })
	slices.SortFunc(members, func(a, b md.Member) int { return a.Slot - b.Slot })
	var out []string
	for _, d := range members {
		out = append(out, d.Device)
	}
	return out, nil
}

// array returns the running array with that name.
func (m Machine) array(ctx context.Context, name string) (md.State, error) {
	list, err := m.Disks.Arrays.Arrays(ctx)
	if err != nil {
		return md.State{}, err
	}
	i := slices.IndexFunc(list, func(a md.State) bool { return a.Name == name })
	if i < 0 {
		return md.State{}, errkind.Errorf(errkind.NotFound, "no array of that name runs")
	}
	return list[i], nil
}

// CompareESP returns how many bytes differ between the members of the ESP on a device: 0
// unless it is an array. Firmware and boot loaders write to one member only.
func (m Machine) CompareESP(ctx context.Context, device string) (differ int64, err error) {
	name, isArray := strings.CutPrefix(device, md.Folder)
	checker, can := m.Disks.Arrays.(md.Checker)
	if !isArray || !can {
		return 0, nil
	}
	a, err := m.array(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("compare the members of %s: %w", device, err)
	}
	return checker.Check(ctx, a.UUID)
}

func hardDrive(inv *blockdev.Inventory, device string) (efivar.HardDrive, bool) {
	p, there := inv.Partition(device)
	for _, d := range inv.Disks {
		if !there || d.GPT == nil || !slices.ContainsFunc(d.Partitions, func(q blockdev.Partition) bool { return q.Path == p.Path }) {
			continue
		}
		for _, e := range d.GPT.Entries {
			if lba := uint64(d.SectorSize); e.ID.String() == p.UUID {
				return efivar.HardDrive{Number: uint32(e.Number), Start: uint64(e.Offset) / lba, Size: uint64(e.Size) / lba, Partition: e.ID}, true
			}
		}
	}
	return efivar.HardDrive{}, false
}

// FindTools fails if the host lacks one of the programs.
func (m Machine) FindTools(names []string) error {
	finder, ok := m.Disks.Runner.(run.Finder)
	for _, name := range names {
		if !ok {
			return nil
		}
		if err := finder.Find(name); err != nil {
			return errkind.WithName(errkind.WithHint(err, "Install it on the host that Trident runs on."), errkind.NameMissingBinary)
		}
	}
	return nil
}
