package selfservice

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// checkStore fails if the store's file system is read-only, or is mounted noexec:
// the candidate and the rescuer run as copies in the store.
func (s *Service) checkStore() error {
	st, err := statfs(s.dir)
	dir := s.onHost(s.dir)
	switch {
	case err != nil:
		return fmt.Errorf("examine the file system of %s: %w", dir, err)
	case st.Flags&unix.ST_RDONLY != 0:
		return errkind.WithHint(
			errkind.Errorf(errkind.Precondition, "the file system of %s is read-only", dir),
			"find out why (journalctl --dmesg), then make it writable: mount -o remount,rw, and its mount point")
	case st.Flags&unix.ST_NOEXEC != 0:
		return errkind.WithHint(
			errkind.Errorf(errkind.Precondition, "the file system of %s is mounted noexec, so trident can run neither a new version nor the rescuer there", dir),
			"mount the file system without noexec, at boot too (/etc/fstab): findmnt --target %s shows the mount", dir)
	}
	return nil
}

func statfs(path string) (st unix.Statfs_t, err error) {
	for {
		if err = unix.Statfs(path, &st); !errors.Is(err, unix.EINTR) {
			return st, err
		}
	}
}
