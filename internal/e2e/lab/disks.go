package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const (
	liveDisk  = "disk.qcow2" // of the live system
	shareDisk = "share.img"
	variables = "variables.fd" // of the firmware
)

// disk is a disk that every system of the guest sees.
type disk struct{ name, file string }

// disks returns the disks of the options, by serial number.
func (o Options) disks() (list []disk) {
	if o.Image != "" {
		list = append(list, disk{"image", "image.qcow2"})
	}
	for i := range o.Disks {
		name := diskName(i)
		list = append(list, disk{name, name + ".qcow2"})
	}
	return list
}

// makeDisks makes the disks and the firmware variables of a new guest.
func (vm *VM) makeDisks(ctx context.Context) error {
	if err := vm.overlay(ctx, liveDisk, vm.base.path(diskFile), "raw"); err != nil {
		return err
	}
	if vm.opts.Image != "" {
		path, err := filepath.Abs(vm.opts.Image)
		if err != nil {
			return err
		}
		if err := vm.overlay(ctx, "image.qcow2", path, "raw"); err != nil {
			return err
		}
	}
	for i := range vm.opts.Disks {
		if err := vm.makeDisk(ctx, i); err != nil {
			return err
		}
	}
	if !vm.opts.UEFI {
		return nil
	}
	return vm.makeFirmware(ctx)
}

// Unplug takes the disk with that index in Options.Disks out of a guest that is off.
// Plug puts it back.
func (vm *VM) Unplug(index int) error { return vm.setPlugged(index, false) }

// Plug puts an unplugged disk back into a guest that is off.
func (vm *VM) Plug(index int) error { return vm.setPlugged(index, true) }

// Replace puts an empty disk of the same size and serial number in the place of the disk with
// that index, in a guest that is off.
func (vm *VM) Replace(ctx context.Context, index int) error {
	if err := vm.setPlugged(index, true); err != nil {
		return err
	}
	if err := os.Remove(vm.path(diskName(index) + ".qcow2")); err != nil {
		return err
	}
	return vm.makeDisk(ctx, index)
}

func (vm *VM) setPlugged(index int, plugged bool) error {
	if vm.running() != nil {
		return errors.New("change a guest's disks: it is switched on")
	}
	if index < 0 || index >= len(vm.opts.Disks) {
		return fmt.Errorf("change a guest's disks: it has no disk %d", index)
	}
	if vm.unplugged == nil {
		vm.unplugged = map[string]bool{}
	}
	vm.unplugged[diskName(index)] = !plugged
	return nil
}

func diskName(index int) string { return "disk" + strconv.Itoa(index) }

func (vm *VM) makeDisk(ctx context.Context, index int) error {
	_, err := tool(ctx, false, "qemu-img", "create", "-q", "-f", "qcow2", vm.path(diskName(index)+".qcow2"), fmt.Sprintf("%dM", vm.opts.Disks[index]))
	return err
}

// overlay makes a copy-on-write disk over the disk backing.
func (vm *VM) overlay(ctx context.Context, name, backing, format string) error {
	_, err := tool(ctx, false, "qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", backing, vm.path(name))
	return err
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

// diskArgs returns QEMU's arguments for the disks: first the disk of the live system, unless
// the guest boots the installed system.
func (vm *VM) diskArgs() (args []string) {
	add := func(name, drive string) {
		// A killed QEMU loses what the guest had not flushed; what it had is in this machine's page cache.
		args = append(args, "-drive", "if=none,id="+name+",cache=unsafe,"+drive, "-device", "virtio-blk-pci,drive="+name+",serial="+name)
	}
	if !vm.installed {
		add("live", "file="+vm.path(liveDisk))
	}
	if _, err := os.Stat(vm.path(shareDisk)); err == nil {
		add("share", "format=raw,read-only=on,file="+vm.path(shareDisk))
	}
	for _, d := range vm.opts.disks() {
		if vm.unplugged[d.name] {
			continue
		}
		add(d.name, "discard=unmap,file="+vm.path(d.file))
	}
	return args
}
