package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// BootAgain waits until the guest is off, and switches it on with its present disks. It boots
// the system that was booted last: the live system or the installed system.
func (vm *VM) BootAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := vm.waitOff(ctx); err != nil {
		return err
	}
	if err := vm.start(ctx, nil); err != nil {
		return fmt.Errorf("boot a guest of %s: %w", vm.base.key, err)
	}
	if _, err := vm.client(ctx); err != nil {
		return fmt.Errorf("boot a guest of %s: %w\n%s", vm.base.key, err, vm.Console())
	}
	return nil
}

// BootInstalled is BootAgain without the disk and the kernel of the live system: the firmware
// boots by its variables and the other disks. The error has [ErrOff] when the system
// restarted before it answered.
func (vm *VM) BootInstalled(ctx context.Context) error {
	return vm.bootFrom(ctx, true)
}

// BootLive is BootAgain into the live system, for a guest that has booted the installed
// system.
func (vm *VM) BootLive(ctx context.Context) error { return vm.bootFrom(ctx, false) }

func (vm *VM) bootFrom(ctx context.Context, installed bool) error {
	if installed && !vm.opts.UEFI {
		return errors.New("boot what is installed: the guest has no firmware for it")
	}
	vm.installed = installed
	return vm.BootAgain(ctx)
}

// WaitOff waits until the guest has gone off or restarted. Both end the QEMU process: the
// guest stays off until it is booted again.
func (vm *VM) WaitOff(ctx context.Context) error { return vm.waitOff(ctx) }

// waitOff waits until the QEMU process has ended.
func (vm *VM) waitOff(ctx context.Context) error {
	p := vm.running()
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return fmt.Errorf("wait for the guest to switch off: %w", context.Cause(ctx))
	}
	vm.off(p)
	return nil
}

// off drops the ended process and the connections into the guest.
func (vm *VM) off(p *process) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.ssh != nil {
		_ = vm.ssh.Close()
		vm.ssh = nil
	}
	if p.qmp != nil {
		p.qmp.close()
	}
	if p.chip != nil {
		p.chip.stop()
	}
	vm.proc = nil
}

// PowerCut kills QEMU. The guest loses what it has not flushed.
func (vm *VM) PowerCut() error {
	p := vm.running()
	if p == nil {
		return nil
	}
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-p.done
	vm.off(p)
	return err
}

// Reboot shuts the guest down, boots it again and returns when it answers over SSH.
func (vm *VM) Reboot(ctx context.Context) error {
	_, err := vm.Run(ctx, "systemctl --no-block reboot", nil)
	// A connection that ends before the command has answered is the reboot.
	if exit := new(ExitError); errors.As(err, &exit) {
		return fmt.Errorf("reboot the guest: %w", err)
	}
	return vm.BootAgain(ctx)
}
