//go:build root

package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/machine/mounts"
	"github.com/trident-project/trident/internal/systemd"
)

// mountsFileSystems mounts by the systemd of the container.
func mountsFileSystems(t *testing.T, bus *systemd.Bus) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := mounts.New("/", bus, run.Host{})
	const where, unit = "/srv/100% own files", `srv-100\x25\x20own\x20files.mount`
	for _, isPersistent := range []bool{false, true} {
		r := mounts.Request{Where: where, Type: "tmpfs", Options: []string{"size=1M", "mode=0700"}, IsPersistent: isPersistent}
		name, err := s.Mount(ctx, r)
		if err != nil || name != unit {
			t.Fatal(name, err)
		}
		info, err := os.ReadFile("/proc/self/mountinfo")
		line := ""
		for l := range strings.Lines(string(info)) {
			if strings.Contains(l, `/srv/100%\040own\040files `) {
				line = l
			}
		}
		if err != nil || !strings.Contains(line, "nosuid,nodev") || !strings.Contains(line, "size=1024k") {
			t.Errorf("%q, %v", line, err)
		}
		_, err = s.Mount(ctx, r)
		if errkind.Of(err) != errkind.Exists {
			t.Error(err)
		}
		cmd := exec.Command("sleep", "infinity")
		cmd.Dir = where
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		err = s.Unmount(ctx, mounts.Unmounting{Where: where})
		if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "(sleep), which works in "+where) {
			t.Error(err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := s.Unmount(ctx, mounts.Unmounting{Where: where, Forgets: isPersistent}); err != nil {
			t.Fatal(err)
		}
		if _, err := bus.Unit(ctx, unit); errkind.Of(err) != errkind.NotFound {
			t.Errorf("the unit is there still: %v", err)
		}
		for _, left := range []string{"/etc/systemd/system/" + unit, "/etc/systemd/system/local-fs.target.wants/" + unit} {
			if _, err := os.Lstat(left); !os.IsNotExist(err) {
				t.Errorf("%s: %v", left, err)
			}
		}
	}
	// A share that is refused at once, by whatever this kernel has: what mount(8) said is in the error.
	for _, isPersistent := range []bool{false, true} {
		_, err := s.Mount(ctx, mounts.Request{What: "no-such-tag", Where: "/srv/none/deep", Type: "9p", Options: []string{"trans=virtio"}, IsPersistent: isPersistent})
		if err == nil || !strings.Contains(err.Error(), ": mount: /srv/none/deep: ") {
			t.Error(err)
		}
		if _, err := bus.Unit(ctx, "srv-none-deep.mount"); errkind.Of(err) != errkind.NotFound {
			t.Errorf("the unit is there still: %v", err)
		}
		if left, err := bus.List(ctx, []string{"srv-none*"}, nil); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
		if _, err := os.Lstat("/srv/none"); !os.IsNotExist(err) {
			t.Errorf("the folder: %v", err)
		}
	}
}
