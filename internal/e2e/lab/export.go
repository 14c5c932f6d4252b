package lab

import (
	"context"
	"errors"
	"fmt"
)

// Export writes the content of the disk with that index in Options.Disks to a new file of
// this machine, while the guest is off. The file has holes in the place of zeros.
func (vm *VM) Export(ctx context.Context, index int, path string) error {
	if vm.running() != nil {
		return errors.New("export a guest's disk: it is switched on")
	}
	if index < 0 || index >= len(vm.opts.Disks) {
		return fmt.Errorf("export a guest's disk: it has no disk %d", index)
	}
	_, err := tool(ctx, false, "qemu-img", "convert", "-q", "-f", "qcow2", "-O", "raw", vm.path(diskName(index)+".qcow2"), path)
	return err
}
