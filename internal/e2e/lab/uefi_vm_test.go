//go:build vm

package lab

import (
	"path/filepath"
	"testing"
)

// variable is one of a vendor of its own: firmware refuses a name that it does not
// know among its own.
const variable = "/sys/firmware/efi/efivars/LabTest-6e0a4f6c-2d35-4b39-9d3f-0d8a3e3f5c11"

func TestVariablesAndDisksOfAGuestWithFirmwareOutliveItsSnapshotsAndPowerCuts(t *testing.T) {
	lap := stopwatch(t)
	b := base(t)
	lap("image")
	vm, err := Boot(t.Context(), b, Options{UEFI: true, Disks: []int64{64, 32}})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, vm)
	lap("cold boot by firmware to ssh")
	if got := run(t, vm, "blockdev --getsize64 /dev/disk/by-id/virtio-disk0 /dev/disk/by-id/virtio-disk1"); got != "67108864\n33554432" {
		t.Errorf("the disks have %s bytes", got)
	}
	run(t, vm, `printf '\007\000\000\000kept' >`+variable+`; echo on the disk >/dev/disk/by-id/virtio-disk1; sync`)
	saved, err := vm.Save(t.Context(), filepath.Join(t.TempDir(), "saved"))
	if err != nil {
		t.Fatal(err)
	}
	lap("save")
	other, err := Load(t.Context(), saved)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, other)
	lap("load to ssh")
	const look = "cat " + variable + " | tail -c +5; head -c 11 /dev/disk/by-id/virtio-disk1"
	if got := run(t, other, look); got != "kepton the disk" {
		t.Errorf("the loaded guest has %q", got)
	}
	run(t, other, `chattr -i `+variable+`; printf '\007\000\000\000cut!' >`+variable)
	if err := other.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if err := other.BootAgain(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("boot again to ssh")
	if got := run(t, other, look); got != "cut!on the disk" {
		t.Errorf("after the power cut the guest has %q", got)
	}
}
