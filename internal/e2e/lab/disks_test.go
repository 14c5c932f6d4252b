package lab

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// attached are the serial numbers of the disks that QEMU is told of, in order.
func attached(args []string) (serials []string) {
	for _, m := range regexp.MustCompile(`serial=(\w+)`).FindAllStringSubmatch(strings.Join(args, " "), -1) {
		serials = append(serials, m[1])
	}
	return serials
}

func TestTheInstalledSystemHasNeitherTheLiveDiskNorItsKernel(t *testing.T) {
	dir := t.TempDir()
	vm := &VM{
		base: &Base{dir: dir}, dir: dir, host: &machine{accel: tcgArgs()},
		opts: Options{UEFI: true, Disks: []int64{100, 200}, Image: "x.img"}.filled(),
	}
	if err := os.WriteFile(filepath.Join(dir, shareDisk), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	live := vm.args()
	vm.installed = true
	installed := vm.args()
	for _, c := range []struct {
		args    []string
		disks   []string
		kernels int
	}{
		{live, []string{"live", "share", "image", "disk0", "disk1"}, 1},
		{installed, []string{"share", "image", "disk0", "disk1"}, 0},
	} {
		if diff := cmp.Diff(c.disks, attached(c.args)); diff != "" {
			t.Errorf("disks (-want +got):\n%s", diff)
		}
		text := strings.Join(c.args, " ")
		if got := strings.Count(text, "-kernel "); got != c.kernels {
			t.Errorf("%d kernels, want %d: %s", got, c.kernels, text)
		}
		if !strings.Contains(text, "file="+filepath.Join(dir, variables)) || strings.Contains(text, "bootindex") {
			t.Errorf("the firmware does not decide by its own variables: %s", text)
		}
	}
	if !strings.Contains(strings.Join(live, " "), filepath.Join(dir, packedKernelFile)) {
		t.Error("the firmware is given a kernel that it cannot start")
	}
}

func TestOnlyAGuestWithFirmwareBootsWhatIsInstalled(t *testing.T) {
	vm := &VM{opts: Options{}.filled()}
	if err := vm.BootInstalled(t.Context()); err == nil || errors.Is(err, ErrOff) {
		t.Errorf("a guest without firmware: %v", err)
	}
	if vm.installed {
		t.Error("the next boot would be of what is installed")
	}
}
