package mounts

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// An Unmounting is a request to unmount.
type Unmounting struct {
	Where string
	// IsLazy detaches the file system at once, and leaves it to its users.
	IsLazy bool
	// Forgets also removes what mounts it at each boot.
	Forgets bool
}

// Unmount unmounts a file system. Its error names who uses it.
func (s *Service) Unmount(ctx context.Context, u Unmounting) error {
	if err := s.unmount(ctx, u); err != nil {
		return systemd.OrAbsent(fmt.Errorf("unmount %s: %w", u.Where, err))
	}
	return nil
}

func (s *Service) unmount(ctx context.Context, u Unmounting) error {
	if err := checkPlace(u.Where); err != nil {
		return err
	}
	release, err := s.claim(u.Where)
	if err != nil {
		return err
	}
	defer release()
	name := unitOf(u.Where)
	_, isOurs, err := s.readUnitFile(name)
	if err != nil {
		return err
	}
	if u.Forgets && !isOurs {
		return errkind.Errorf(errkind.NotFound, "Trident does not mount it at each boot")
	}
	m, err := s.mounted(u.Where)
	switch {
	case err != nil:
		return err
	case m != nil:
		if err := s.end(ctx, name, m, u.IsLazy); err != nil {
			return err
		}
	case !u.Forgets:
		return errkind.Errorf(errkind.NotFound, "nothing is mounted there")
	}
	if u.Forgets {
		return s.forget(ctx, name, u.Where)
	}
	if isOurs { // its credentials are for the next boot
		return nil
	}
	return s.removeCredentials(u.Where)
}

// end ends a mount, and compares what systemd says with the kernel's table.
func (s *Service) end(ctx context.Context, name string, m *mountinfo.Info, isLazy bool) error {
	var failed error
	if isLazy {
		failed = s.Detach(m.Mountpoint)
	} else {
		failed = s.Units.Run(ctx, systemd.StopJob, name)
	}
	left, err := s.mounted(m.Mountpoint)
	if err != nil {
		return err
	}
	if left == nil {
		return nil
	}
	if left.ID != m.ID {
		return errkind.Errorf(errkind.Precondition, "another file system is mounted there, below the one that was unmounted: %s", left.Source)
	}
	holders, _, err := s.holders(left)
	if err != nil || len(holders) == 0 {
		return errkind.Errorf(errkind.Precondition, "it is mounted still: %w", orUnknown(failed))
	}
	return errkind.WithHint(errkind.Errorf(errkind.Precondition, "it is in use by %s", listed(holders)), "End that first. --lazy detaches it and leaves it to its users.")
}

func orUnknown(err error) error {
	if err == nil {
		return errkind.Errorf(errkind.Internal, "systemd gives no reason")
	}
	return err
}

// namedHolders is how many holders an error names.
const namedHolders = 3

func listed(holders []Holder) string {
	var out []string
	for i, h := range holders {
		if i == namedHolders {
			out = append(out, fmt.Sprintf("%d more", len(holders)-i))
			break
		}
		out = append(out, h.String())
	}
	return strings.Join(out, ", ")
}
