package slots

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

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/fat"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/loop"
	"github.com/trident-project/trident/internal/linux/mount"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/storage"
)

// Machine is what of a host is no file: its disks, its firmware, what is mounted.
// RealMachine is that of the host that this process runs on.
type Machine struct {
	Inventory func() (*blockdev.Inventory, error)
	Disks     storage.Tools // with its Open
	Mounts    mount.Mounter
	// Firmware are the variables that say what boots; a host that has not booted by
	// UEFI is an error of kind Precondition.
	Firmware func() (efivar.Store, error)
	// ESPFiles shows the files in an image of an EFI system partition, which is not
	// changed while they are in use.
	ESPFiles func(image *os.File) (files fs.FS, close func() error, err error)
	// ESPNow shows the files on the EFI system partition of a device as they are now, and
	// the room that is left there, without a mount.
	ESPNow func(device string) (files fs.FS, room boot.Space, close func() error, err error)
	// Tree shows the tree of files in an image of a file system, read-only, below a folder
	// that only this process sees. Where the kernel cannot, that is an error of kind
	// Unsupported. Nil: it never can.
	Tree func(image *os.File, fstype string) (root string, close func() error, err error)
	// Memory is how many bytes of memory this process can take, if that is known. Nil:
	// it is not.
	Memory func() (bytes int64, known bool)
	// Arch is the architecture, as Go names it.
	Arch string
}

// RealMachine is the machine under the root folder of a host, usually "/".
func RealMachine(root, arch string) Machine {
	return Machine{
		Inventory: func() (*blockdev.Inventory, error) { return blockdev.Read(root) },
		Disks:     storage.Tools{Runner: run.Host{}, Open: blockdev.Open, Udev: udevRuns(root)},
		Mounts:    mount.Host{},
		Firmware:  func() (efivar.Store, error) { return efivar.Open(filepath.Join(root, efivar.DefaultDir)) },
		ESPFiles:  openESP,
		ESPNow:    espNow,
		Tree:      openTree,
		Memory: func() (int64, bool) {
			debug.FreeOSMemory() // what another image has taken before
			return hostinfo.AvailableMemory(root)
		},
		Arch: arch,
	}
}

func udevRuns(root string) bool {
	_, err := os.Stat(filepath.Join(root, "run/udev/control"))
	return err == nil
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

// memory is how many bytes of memory this process can take, if that is known.
func (m Machine) memory() (int64, bool) {
	if m.Memory == nil {
		return 0, false
	}
	return m.Memory()
}

// fitMemory checks that this host can unpack an image, before anything is destroyed,
// and returns the largest window that it has memory for; 0: any.
func (s *Service) fitMemory(ctx context.Context, i *image.Image) (window int64, err error) {
	available, known := s.Machine.memory()
	if !known {
		return 0, nil
	}
	if err := i.FitMemory(ctx, available); err != nil {
		return 0, errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
	}
	return i.Window(), nil
}

// Folders where file systems are mounted for as long as a step needs them.
const (
	// newRoot is the OS in the slot that is written. Only root can enter the folder
	// above it: nobody has tried that OS yet.
	newRoot = "run/trident/newroot/tree"
	espRoot = "run/trident/esp"
)

// withMount shows a file system in a folder of this host while use runs. What is
// mounted there, as by a daemon that died, is taken away first.
func (s *Service) withMount(device, fstype, folder string, use func(at string) error) (err error) {
	at := filepath.Join(s.Root, folder)
	if err := s.clear(at); err != nil {
		return err
	}
	err = s.Touch("mount "+filepath.Base(folder), func() error {
		on, err := os.Open(at)
		if err != nil {
			return err
		}
		f := mount.FileSystem{Source: device, Type: fstype, NoExec: true}
		return errors.Join(s.Machine.Mounts.Mount(f, on), on.Close())
	})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.Touch("unmount "+filepath.Base(folder), func() error { return s.Machine.Mounts.Unmount(at) }))
	}()
	return use(at)
}

// clear makes an empty folder of at, which only root can enter.
func (s *Service) clear(at string) error {
	if err := s.Touch("unmount "+filepath.Base(at), func() error { return s.Machine.Mounts.Unmount(at) }); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(at, 0o700), os.Chmod(at, 0o700))
}

// fstypeOf is what is on a device, for mounting it.
func (s *Service) fstypeOf(device string) (string, error) {
	dev, err := s.Machine.Disks.Open(device, false)
	if err != nil {
		return "", err
	}
	content := blockdev.Probe(dev, dev.Size())
	if err := dev.Close(); err != nil {
		return "", err
	}
	if content.Type == "" {
		return "", fmt.Errorf("%s has no file system that is known", device)
	}
	return content.Type, nil
}

// espOf says to the firmware which partition the ESP is.
func espOf(inv *blockdev.Inventory, device string) (efivar.HardDrive, error) {
	p, there := inv.Partition(device)
	for _, d := range inv.Disks {
		if !there || d.GPT == nil {
			continue
		}
		if i := slices.IndexFunc(d.GPT.Entries, func(e gpt.Entry) bool { return e.ID.String() == p.UUID }); i >= 0 {
			e, lba := d.GPT.Entries[i], uint64(d.SectorSize)
			return efivar.HardDrive{Number: uint32(e.Number), Start: uint64(e.Offset) / lba, Size: uint64(e.Size) / lba, Partition: e.ID}, nil
		}
	}
	return efivar.HardDrive{}, fmt.Errorf("find the EFI system partition %s: no disk of this host has it", device)
}
