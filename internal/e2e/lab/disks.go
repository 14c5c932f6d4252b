package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	liveDisk  = "disk.qcow2" // of the live system
	shareDisk = "share.img"
	variables = "variables.fd" // of the firmware
)

// Debian's OVMF (package ovmf): the code, which all guests share, and variables
// as they are on a new machine.
const (
	ovmfCode      = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// disk is one that is there in every system that the guest boots.
type disk struct{ name, file string }

// disks returns those that the options ask for, by serial number.
func (o Options) disks() (list []disk) {
	if o.Image != "" {
		list = append(list, disk{"image", "image.qcow2"})
	}
	for i := range o.Disks {
		name := "disk" + strconv.Itoa(i)
		list = append(list, disk{name, name + ".qcow2"})
	}
	return list
}

// makeDisks makes a new guest's disks, and its variables.
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
	for i, size := range vm.opts.Disks {
		_, err := tool(ctx, false, "qemu-img", "create", "-q", "-f", "qcow2", vm.path(fmt.Sprintf("disk%d.qcow2", i)), fmt.Sprintf("%dM", size))
		if err != nil {
			return err
		}
	}
	if !vm.opts.UEFI {
		return nil
	}
	err := copyFile(ovmfVariables, vm.path(variables))
	if errors.Is(err, fs.ErrNotExist) {
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "the lab lacks the firmware for guests: %w", err), "apt-get install ovmf")
	}
	return err
}

// overlay makes a disk that begins as what backing holds, and does not change it.
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

// diskArgs gives QEMU the disks, that of the live system first unless it is out.
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
		add(d.name, "discard=unmap,file="+vm.path(d.file))
	}
	return args
}

// firmwareArgs gives QEMU the firmware and its variables. Nothing is booted from
// the network: that would be tried, for a minute, where no disk boots. No
// bootindex is set anywhere, for OVMF would then order its entries by that.
func firmwareArgs(variables string) []string {
	return []string{
		"-drive", "if=pflash,unit=0,format=raw,read-only=on,file=" + ovmfCode,
		"-drive", "if=pflash,unit=1,format=raw,file=" + variables,
		"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no",
	}
}
