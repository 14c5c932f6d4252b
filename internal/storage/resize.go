package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

const resizeTimeout = 30 * time.Minute

// Resize makes a file system from an image as large as its partition, once it
// was checked. It must not be mounted. File systems other than ext2 to ext4 stay
// as they are: those of xfs only grow when they are mounted, and vfat not at all.
func Resize(ctx context.Context, tools run.Runner, typ, path string) error {
	switch typ {
	case "ext2", "ext3", "ext4":
	default:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resizeTimeout)
	defer cancel()
	_, err := tools.Run(ctx, "e2fsck", "-f", "-y", path)
	// 1 says that faults were found and corrected (e2fsck(8)).
	if exit, ok := errors.AsType[*run.ExitError](err); ok && exit.Status == "exit status 1" {
		err = nil
	}
	if err == nil {
		_, err = tools.Run(ctx, "resize2fs", path)
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("resize the %s file system on %s: %w", typ, path, err), "DeployImages")
	}
	return nil
}
