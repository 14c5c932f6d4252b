package liveos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// overrideSafety is a file below / that disables CheckLive.
const overrideSafety = "override-trident-safety-check"

// CheckLive refuses an installation from the system below root if that is an installed one,
// which does not know that Trident is about to replace it.
func CheckLive(root string) error {
	live := []string{"rootfs", "ramfs", "tmpfs", "overlay", "squashfs", "erofs", "iso9660"}
	if _, err := os.Stat(filepath.Join(root, overrideSafety)); err == nil {
		return nil
	}
	table, err := inroot.FS(root).ReadFile("proc/self/mountinfo", 16<<20)
	var mounts []*mountinfo.Info
	if err == nil {
		mounts, err = mountinfo.GetMountsFromReader(bytes.NewReader(table), nil)
	}
	if err != nil {
		return fmt.Errorf("find the type of the root file system: %w", err)
	}
	fstype := "unknown"
	for _, m := range mounts {
		if m.Mountpoint == "/" {
			fstype = m.FSType // the last one covers others
		}
	}
	if slices.Contains(live, fstype) {
		return nil
	}
	err = errkind.Errorf(errkind.Precondition, "this system runs from a disk (its root file system is %s), but an installation needs a live system", fstype)
	return errkind.WithName(errkind.WithHint(err, "Boot a live system, or create the file /%s to install from this one anyway.", overrideSafety), errkind.NameCleanInstallSafetyCheck)
}
