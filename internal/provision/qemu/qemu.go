// Package qemu runs an empty virtual machine that boots a live image: x86-64, with UEFI
// firmware, one disk and the user network of QEMU, in which 10.0.2.2 is this host.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

const (
	// HostAddress is the address of this host in the user network of QEMU.
	HostAddress = "10.0.2.2"

	tool = "qemu-system-x86_64"
	mib  = 1 << 20
	// maxDisk is the size of the largest disk, in bytes.
	maxDisk = 16 << 40
)

// firmwares are the places of OVMF and of its empty variables, by distribution.
var firmwares = []firmware{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},         // Debian, Ubuntu
	{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},     // Fedora, Azure Linux
	{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"}, // Arch Linux
}

type firmware struct{ code, variables string }

// Machine is a virtual machine. Beside its disk it keeps the variables of its firmware
// (DISK.vars) and the output of its serial port (DISK.log).
type Machine struct {
	Disk   string // the file of the disk, which Create makes
	Size   int64  // of the disk, in bytes
	Memory int64  // bytes
	// Emulate runs the machine without KVM, ten times slower. Otherwise it runs with KVM if
	// QEMU can open it, which does not prove that KVM runs the kernel.
	Emulate bool

	firmware firmware
}

// Create makes the disk, empty and sparse, and the variables of the firmware. It fails with
// Precondition if QEMU or OVMF is not installed, and with Invalid for impossible sizes and if
// one of the files exists. After a failure no file of it is left.
func (m *Machine) Create() error {
	if err := m.create(firmwares); err != nil {
		return fmt.Errorf("make a virtual machine: %w", err)
	}
	return nil
}

func (m *Machine) create(known []firmware) error {
	switch {
	case m.Size < mib || m.Size > maxDisk:
		return errkind.Errorf(errkind.Invalid, "the disk has %d bytes, and must have 1 MiB to 16 TiB", m.Size)
	case m.Memory < 256*mib:
		return errkind.Errorf(errkind.Invalid, "the memory has %d bytes, and must have at least 256 MiB", m.Memory)
	}
	if err := (run.Host{}).Find(tool); err != nil {
		return errkind.WithHint(err, "On Debian: apt install qemu-system-x86 ovmf")
	}
	empty, err := m.findFirmware(known)
	if err != nil {
		return err
	}
	if err := makeFile(m.Disk, func(f *os.File) error { return f.Truncate(m.Size) }); err != nil {
		return err
	}
	err = makeFile(m.variables(), func(f *os.File) error {
		_, err := f.Write(empty)
		return err
	})
	if err != nil {
		return errors.Join(err, os.Remove(m.Disk))
	}
	return nil
}

// findFirmware returns the empty variables of the first firmware that this host has.
func (m *Machine) findFirmware(known []firmware) ([]byte, error) {
	for _, one := range known {
		if _, err := os.Stat(one.code); err != nil {
			continue
		}
		empty, err := os.ReadFile(one.variables)
		if err == nil {
			m.firmware = one
			return empty, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the variables of the firmware: %w", err)
		}
	}
	return nil, errkind.WithHint(errkind.Errorf(errkind.Precondition, "find the firmware OVMF: it is not installed"), "On Debian: apt install ovmf")
}

// makeFile makes a file, which must not exist.
func makeFile(path string, fill func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "%s exists, and would be overwritten", path), "Name another disk, or remove this one and its .vars.")
	}
	if err != nil {
		return err
	}
	if err := errors.Join(fill(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func (m *Machine) variables() string { return m.Disk + ".vars" }

// Log returns the path of the output of the serial port.
func (m *Machine) Log() string { return m.Disk + ".log" }

// Run runs the machine with a live image as its CD, from the first boot through all reboots.
// It kills QEMU and returns nil when ctx ends; it fails if QEMU ends before. The machine boots
// the CD because its disk is empty, and its disk when an installation has made it bootable.
func (m *Machine) Run(ctx context.Context, iso io.Reader, size int64) error {
	cd, err := m.copyCD(iso, size)
	if err != nil {
		return fmt.Errorf("run a virtual machine: %w", err)
	}
	defer func() { _ = os.Remove(cd) }()
	_, err = run.Output(ctx, run.Command{Path: tool, Args: m.arguments(cd)})
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		return errkind.Errorf(errkind.Unavailable, "run a virtual machine: it has powered off; its serial port wrote to %s", m.Log())
	}
	return fmt.Errorf("run a virtual machine: %w", err)
}

// copyCD writes the CD to a file beside the disk. The CD has the key of the machine.
func (m *Machine) copyCD(iso io.Reader, size int64) (string, error) {
	path := m.Disk + ".iso"
	return path, makeFile(path, func(f *os.File) error {
		n, err := io.Copy(f, iso)
		if err == nil && n != size {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}

// arguments returns those of QEMU. No device has a bootindex, because OVMF would order the
// boot entries of the installed system by it. The firmware does not boot from the network.
func (m *Machine) arguments(cd string) []string {
	file := func(path string) string { return strings.ReplaceAll(path, ",", ",,") } // see qemu(1), -drive
	accelerators := []string{"-accel", "kvm", "-accel", "tcg"}                      // the first one that works
	if m.Emulate {
		accelerators = accelerators[2:]
	}
	return append(accelerators,
		"-nodefaults", "-machine", "q35", "-cpu", "max",
		"-smp", "2", "-m", strconv.FormatInt(m.Memory/mib, 10), "-display", "none", "-serial", "file:"+m.Log(),
		"-drive", "if=pflash,unit=0,format=raw,read-only=on,file="+m.firmware.code,
		"-drive", "if=pflash,unit=1,format=raw,file="+file(m.variables()),
		"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no",
		"-drive", "if=none,id=disk,format=raw,discard=unmap,file="+file(m.Disk), "-device", "virtio-blk-pci,drive=disk",
		"-drive", "if=none,id=cd,format=raw,media=cdrom,read-only=on,file="+file(cd), "-device", "ide-cd,drive=cd",
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci",
	)
}
