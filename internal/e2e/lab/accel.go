package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

const qemu = "qemu-system-x86_64"

// oldestQEMU is the oldest QEMU that emulates today's kernels: under 7.2 they panic within
// seconds.
const oldestQEMU = 8

// Cmdline returns the command line of a guest's kernel with this root: a device, or UUID=
// and the UUID of a file system. With panic=-1 and -no-reboot a panic or a reboot ends the
// QEMU process. no_timer_check: the kernel's check of the timer fails now and then on a busy
// machine that emulates.
//
// The list of excluded drivers saves time: systemd-udevd would load them at each boot, and
// the first merge of an image would wait for that.
func Cmdline(root string) string {
	const unused = "ahci,libata,btrfs,kvm_amd,kvm_intel,kvm,aesni_intel,cryptd,ghash_clmulni_intel,button,psmouse,i2c_i801,lpc_ich,iTCO_wdt,sr_mod,cdrom"
	return "root=" + root + " rw console=ttyS0 quiet panic=-1 no_timer_check net.ifnames=0 mitigations=off systemd.show_status=0 modprobe.blacklist=" + unused
}

// kernelArgs returns the arguments with which QEMU starts a kernel of the lab.
func kernelArgs(b *Base, uefi bool, more string) []string {
	kernel := kernelFile
	if uefi { // which starts programs of its own kind only
		kernel = packedKernelFile
	}
	return []string{"-kernel", b.path(kernel), "-initrd", b.path(initrdFile), "-append", Cmdline("/dev/vda") + " " + more}
}

func kvmArgs() []string { return []string{"-accel", "kvm", "-cpu", "host"} }
func tcgArgs() []string { return []string{"-accel", "tcg,thread=multi", "-cpu", "max"} }

// machine is the way in which this machine runs guests.
type machine struct {
	accel []string
	id    string // what a saved guest depends on besides its own files
}

// probe finds out how this machine runs guests. /dev/kvm proves nothing, so probe chooses
// KVM only where KVM has booted the guest's kernel. The answer holds until this machine
// restarts.
func probe(ctx context.Context, b *Base) (*machine, error) {
	if runtime.GOARCH != "amd64" {
		return nil, errkind.Errorf(errkind.Unsupported, "the lab's guests are amd64, this machine is %s", runtime.GOARCH)
	}
	if err := needTools(map[string]string{qemu: "qemu-system-x86", "qemu-img": "qemu-utils"}); err != nil {
		return nil, err
	}
	version, err := tool(ctx, false, qemu, "--version")
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(string(version), "\n")
	if err := checkQEMU(line); err != nil {
		return nil, err
	}
	if !kvmWorks(ctx, b) {
		return &machine{accel: tcgArgs(), id: line + " tcg"}, nil
	}
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	model, _, _ := strings.Cut(string(cpu), "\ncpu MHz")
	return &machine{accel: kvmArgs(), id: line + " kvm " + model}, nil
}

func checkQEMU(line string) error {
	var major, minor int
	if _, err := fmt.Sscanf(line, "QEMU emulator version %d.%d", &major, &minor); err != nil {
		return fmt.Errorf("read QEMU's version from %q: %w", line, err)
	}
	if major < oldestQEMU {
		err := errkind.Errorf(errkind.Precondition, "QEMU %d.%d panics the guest's kernel, the lab needs %d or newer", major, minor, oldestQEMU)
		return errkind.WithHint(err, "on Debian 12: apt-get install -t bookworm-backports qemu-system-x86 qemu-utils")
	}
	return nil
}

func kvmWorks(ctx context.Context, b *Base) bool {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = f.Close()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false
	}
	cache, err := cacheDir()
	if err != nil {
		return false
	}
	remembered := filepath.Join(cache, "kvm")
	if known, err := os.ReadFile(remembered); !errors.Is(err, fs.ErrNotExist) {
		if answer, ok := bytes.CutPrefix(known, boot); ok {
			return string(answer) == "works"
		}
	}
	answer := "refuses"
	if tryKVM(ctx, b) {
		answer = "works"
	}
	// Without the file the next process probes again.
	_ = os.WriteFile(remembered, append(boot, answer...), 0o600)
	return answer == "works"
}

// tryKVM boots up to the init of the lab, which prints to the console.
func tryKVM(ctx context.Context, b *Base) bool {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	args := append([]string{"-M", "q35", "-m", "512", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"}, kvmArgs()...)
	cmd := exec.CommandContext(ctx, qemu, append(args, kernelArgs(b, false, "lab.probe")...)...)
	cmd.WaitDelay = time.Second
	out, _ := cmd.Output() // a QEMU that aborts says enough by what it did not print
	return bytes.Contains(out, []byte("lab-probe-ok"))
}
