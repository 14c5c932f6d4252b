//go:build vm

package lab

import (
	"testing"
)

func TestAMirrorAndATPMOutliveALostDiskAndAPowerCut(t *testing.T) {
	lap := stopwatch(t)
	vm, err := Boot(t.Context(), base(t), Options{UEFI: true, TPM: true, Disks: []int64{64, 64}})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, vm)
	lap("cold boot to ssh")
	run(t, vm, `mdadm --create /dev/md/mirror --level=1 --raid-devices=2 --metadata=1.0 --run --homehost=any /dev/disk/by-id/virtio-disk? &&
		udevadm settle && mkfs.ext4 -q -U 12345678-1234-1234-1234-123456789abc /dev/md/mirror`)
	// The kernel measures nothing here, but the firmware does.
	const seven = "cat /sys/class/tpm/tpm0/pcr-sha256/7"
	measured := run(t, vm, seven)
	if len(measured) != 64 {
		t.Errorf("register 7 has %q", measured)
	}
	run(t, vm, `echo secret >/root/key; cd /root && head -c 32M /dev/zero >v && cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 v /root/key &&
		systemd-cryptenroll --unlock-key-file=/root/key --tpm2-device=auto --tpm2-pcrs=7 /root/v && sync`)
	lap("mirror and key made")
	if err := vm.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if err := vm.Unplug(0); err != nil {
		t.Fatal(err)
	}
	if err := vm.BootAgain(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("boot again to ssh")
	if got := run(t, vm, `udevadm settle; cat /sys/block/$(basename $(readlink -f /dev/md/mirror))/md/degraded; blkid -s UUID -o value /dev/md/mirror`); got != "1\n12345678-1234-1234-1234-123456789abc" {
		t.Errorf("without a disk the mirror is %q", got)
	}
	if got := run(t, vm, seven); got != measured {
		t.Errorf("register 7 has %q, had %q", got, measured)
	}
	run(t, vm, `systemd-cryptsetup attach v /root/v none tpm2-device=auto,headless=true && test -b /dev/mapper/v`)
	lap("unlocked")
}
