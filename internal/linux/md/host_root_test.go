//go:build root

package md_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/linux/md/mdtest"
	"github.com/trident-project/trident/internal/linux/run"
)

// The suite on arrays of the kernel, over loop devices.
func TestArraysOfTheKernel(t *testing.T) {
	stat, err := os.ReadFile("/proc/mdstat")
	if err != nil || !bytes.Contains(stat, []byte("raid1")) {
		t.Skip("the kernel has no md driver with raid1")
	}
	if err := (run.Host{}).Find("mdadm"); err != nil {
		t.Skip("mdadm is not installed")
	}
	mdtest.Suite(t, func(t *testing.T) *mdtest.Bench {
		h := &md.Host{Root: "/", Tools: run.Host{}}
		b := &mdtest.Bench{Manager: h, Checker: h}
		for i := range 4 {
			b.Devices = append(b.Devices, loopDevice(t, filepath.Join(t.TempDir(), fmt.Sprint(i))))
		}
		b.Fail = func(device string) {
			for _, state := range glob(t, "/sys/block/md*/md/dev-"+filepath.Base(device)+"/state") {
				if err := os.WriteFile(state, []byte("faulty"), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.Settle = func() {
			for _, dir := range glob(t, "/sys/block/md*/md/dev-"+filepath.Base(b.Devices[0])) {
				array := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(dir)))
				// mdadm waits for the kernel; it fails if there is nothing to wait for.
				_, _ = run.Host{}.Run(t.Context(), "mdadm", "--wait", array)
			}
		}
		return b
	})
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func loopDevice(t *testing.T, file string) string {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	out, err := run.Host{}.Run(t.Context(), "losetup", "--find", "--show", file)
	if err != nil {
		t.Skip("no loop device: ", err)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := (run.Host{}).Run(ctx, "losetup", "--detach", device); err != nil {
			t.Error(err)
		}
	})
	return device
}
