package mounts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/systemd"
)

// Mount mounts a file system, and returns the name of its unit once the kernel has it. If that
// fails, the host is as it was.
func (s *Service) Mount(ctx context.Context, r Request) (name string, err error) {
	name, err = s.mount(ctx, r)
	if err != nil {
		return "", systemd.OrAbsent(fmt.Errorf("mount %s: %w", r.Where, err))
	}
	return name, nil
}

func (s *Service) mount(ctx context.Context, r Request) (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	if err := s.checkFolder(r.Where); err != nil {
		return "", err
	}
	release, err := s.claim(r.Where)
	if err != nil {
		return "", err
	}
	defer release()
	name := unitOf(r.Where)
	if m, err := s.mounted(r.Where); err != nil {
		return "", err
	} else if m != nil {
		return "", errkind.Errorf(errkind.Exists, "%s is mounted there", m.Source)
	}
	isOurs, err := s.checkUnit(ctx, name)
	if err != nil {
		return "", err
	}
	switch {
	case r.IsPersistent:
		err = s.mountForEver(ctx, name, &r)
	case isOurs:
		err = errkind.WithHint(errkind.Errorf(errkind.Exists, "it is mounted there at each boot"), "Forget that first: trident host unmount --forget %s", r.Where)
	default:
		err = s.mountOnce(ctx, name, &r)
	}
	return name, err
}

// checkUnit fails if the host has a unit for the place that is not one of Trident. isOurs
// reports whether Trident mounts there at each boot.
func (s *Service) checkUnit(ctx context.Context, name string) (isOurs bool, err error) {
	_, isOurs, err = s.readUnitFile(name)
	if err != nil || isOurs {
		return isOurs, err
	}
	if _, err = s.Units.Unit(ctx, name); errkind.Of(err) == errkind.NotFound {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return false, errOthersUnit(name)
}

func (s *Service) mountOnce(ctx context.Context, name string, r *Request) error {
	if err := s.writeCredentials(r); err != nil {
		return err
	}
	err := s.started(ctx, name, r, func() error {
		return s.Units.StartMount(ctx, name, systemd.TransientMount{Description: "Mount of " + r.Where, What: r.What, Type: r.Type, Options: r.options(), Timeout: mountTime})
	})
	if err != nil {
		return errors.Join(err, s.removeCredentials(r.Where))
	}
	return nil
}

// mountForEver mounts now, and at each boot: the link that makes systemd do so is the last
// change. What a power cut leaves before it is a file that the next call replaces.
func (s *Service) mountForEver(ctx context.Context, name string, r *Request) error {
	file := filepath.Join(unitFolder, name)
	before, err := os.ReadFile(s.path(file))
	if err == nil && !bytes.Equal(before, r.unitFile()) {
		return errkind.WithHint(errkind.Errorf(errkind.Exists, "another mount there at each boot is set up already"), "Forget that first: trident host unmount --forget %s", r.Where)
	}
	if err := s.writeCredentials(r); err != nil {
		return err
	}
	err = s.startPersistent(ctx, name, file, r)
	if err != nil && before == nil {
		// The context may be why it failed.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
		defer cancel()
		return errors.Join(err, s.forget(ctx, name, r.Where))
	}
	return err
}

// cleanTime is how long it may take to undo a mount that failed.
const cleanTime = 30 * time.Second

func (s *Service) startPersistent(ctx context.Context, name, file string, r *Request) error {
	if err := s.write(file, r.unitFile(), 0o644); err != nil {
		return err
	}
	if err := s.Units.Reload(ctx); err != nil {
		return err
	}
	if err := s.started(ctx, name, r, func() error { return s.Units.Run(ctx, systemd.StartJob, name) }); err != nil {
		return err
	}
	return s.Units.Enable(ctx, name)
}

// started runs start, and then fails unless the kernel has the mount. After a failure neither
// the unit nor a folder that systemd made for it is left.
func (s *Service) started(ctx context.Context, name string, r *Request, start func() error) error {
	missing := s.missing(r.Where)
	err := s.startAndCheck(ctx, name, r, start)
	if err == nil || errkind.Of(err) == errkind.Exists { // then the unit is another caller's
		return err
	}
	// The context may be why it failed.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	return errors.Join(err, s.abandon(ctx, name, missing))
}

// abandon ends a mount that has failed or is still in progress, and removes the folders that
// were missing before it, unless they have files now.
func (s *Service) abandon(ctx context.Context, name string, missing []string) error {
	if err := s.Units.Run(ctx, systemd.StopJob, name); err != nil && errkind.Of(err) != errkind.NotFound {
		return err
	}
	if err := s.Units.ResetFailed(ctx, name); err != nil {
		return err
	}
	for _, folder := range missing {
		_ = os.Remove(s.path(folder)) // fails if it has files, or was not made
	}
	return nil
}

// missing returns the folders of a path that do not exist, the innermost first.
func (s *Service) missing(where string) (out []string) {
	for ; where != "/"; where = filepath.Dir(where) {
		if _, err := os.Lstat(s.path(where)); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		out = append(out, where)
	}
	return out
}

func (s *Service) startAndCheck(ctx context.Context, name string, r *Request, start func() error) error {
	began := time.Now()
	if err := start(); err != nil {
		if said := s.Said(ctx, name, began); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return err
	}
	m, err := s.mounted(r.Where)
	if err == nil && m == nil {
		err = errkind.Errorf(errkind.Internal, "systemd says that %s has mounted it, but the kernel has no mount there", name)
	}
	return err
}

// forget removes what mounts a place at each boot.
func (s *Service) forget(ctx context.Context, name, where string) error {
	if err := s.Units.Disable(ctx, name); err != nil && errkind.Of(err) != errkind.NotFound {
		return err
	}
	if err := atomicfile.Remove(s.path(filepath.Join(unitFolder, name))); err != nil {
		return err
	}
	return errors.Join(s.removeCredentials(where), s.Units.Reload(ctx))
}
