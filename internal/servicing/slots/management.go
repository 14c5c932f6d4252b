package slots

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
)

// managementDir has copies of the live system's previous network files. It is not a folder
// of operations, because Trident deletes those before the undo needs the copies.
const managementDir = "var/lib/trident/management-os"

// setUpManagementOS gives the live system the users and the network of managementOs. The
// Undo restores the network, and leaves the users.
func (s *Service) setUpManagementOS(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	m := &c.Spec().ManagementOS
	if r.State.Purpose != installs || m.Netplan == nil && len(m.Users) == 0 {
		return nil
	}
	if err := s.safeToInstall(); err != nil {
		return err
	}
	if len(m.Users) > 0 {
		if err := osconfig.SetupUsers(ctx, s.Root, "managementOs.users", m.Users, s.Touch); err != nil {
			return err
		}
		if err := s.reloadSSH(ctx); err != nil {
			return err
		}
		r.Logf(slog.LevelInfo, "the users of the management OS are set up")
	}
	return s.managementNetwork(ctx, r, m.Netplan)
}

// reloadSSH has a running SSH server read its users' settings again.
func (s *Service) reloadSSH(ctx context.Context) error {
	for _, unit := range []string{"ssh.service", "sshd.service"} {
		u, err := s.Systemd.Unit(ctx, unit)
		if errkind.Of(err) == errkind.NotFound || err == nil && u.Active != "active" {
			continue
		}
		if err == nil {
			err = s.Touch("reload "+unit, func() error { return s.Systemd.ReloadOrRestart(ctx, unit) })
		}
		if err != nil {
			return errkind.WithName(fmt.Errorf("reload the SSH server: %w", err), errkind.NameSetUpUsers)
		}
		return nil // the other unit is an alias
	}
	return nil
}

func (s *Service) managementNetwork(ctx context.Context, r *opRun, n hostconfig.Netplan) error {
	if n == nil {
		return nil
	}
	if !r.State.ManagementBegun {
		if same, err := s.hasNetwork(n); err != nil || same {
			return err
		}
		if err := s.keepManagement(r); err != nil {
			return errkind.WithName(err, errkind.NameBackupNetplanConfig)
		}
		r.State.ManagementBegun = true
		if err := r.Save(ctx); err != nil {
			return err
		}
	}
	if err := s.Touch("write network", func() error { return osconfig.WriteNetwork(s.Root, n) }); err != nil {
		return errkind.WithName(fmt.Errorf("set up managementOs.netplan: %w", err), errkind.NameWriteNetplanConfig)
	}
	err := s.Touch("apply network", func() error { return s.ApplyNetplan(ctx) })
	if errkind.Of(err) == errkind.Precondition { // the host has no netplan
		err = errkind.WithHint(err, "Install netplan in the live system, or leave managementOs.netplan out.")
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("set up managementOs.netplan: %w", err), errkind.NameStartNetwork)
	}
	r.Logf(slog.LevelInfo, "the network of the management OS is set up")
	return nil
}

// hasNetwork reports whether the host has the network n already, as after start-network.
// Then nothing may interrupt its connections.
func (s *Service) hasNetwork(n hostconfig.Netplan) (bool, error) {
	want, err := osconfig.NetplanText(n)
	if err != nil {
		return false, err
	}
	have, err := inroot.FS(s.Root).ReadFile(osconfig.Netplan[1:], 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return bytes.Equal(have, want), err
}

func (s *Service) keptManagement(i int) string {
	return filepath.Join(s.Root, managementDir, strconv.Itoa(i))
}

func (s *Service) keepManagement(r *opRun) error {
	names := []string{osconfig.Netplan, osconfig.CloudInit}
	r.State.ManagementKept = make([]osconfig.Kept, len(names))
	return s.Touch("keep network", func() error {
		err := os.MkdirAll(filepath.Join(s.Root, managementDir), 0o700)
		for i, name := range names {
			if err == nil {
				r.State.ManagementKept[i], err = osconfig.Keep(s.Root, name, s.keptManagement(i))
			}
		}
		return err
	})
}

// restoreManagementOS restores the network of the live system, unless the host has rebooted
// since.
func (s *Service) restoreManagementOS(ctx context.Context, r *opRun) error {
	if s.hasRebooted(r) {
		return nil
	}
	if r.State.ManagementBegun {
		if err := s.restoreManagementNetwork(ctx, r); err != nil {
			return err
		}
		r.State.ManagementBegun = false // before the first copy is deleted
		if err := r.Save(ctx); err != nil {
			return err
		}
	}
	dir := filepath.Join(s.Root, managementDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.Touch("discard copies", func() error { return os.RemoveAll(dir) })
}

func (s *Service) restoreManagementNetwork(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	for i, k := range r.State.ManagementKept {
		if err := s.RestoreKept(r, k, s.keptManagement(i)); err != nil {
			return err
		}
	}
	err = s.Touch("apply network again", func() error {
		return s.ApplyFormerNetwork(ctx, r, filepath.Join(s.Root, managementDir, "taken-back"), c.Spec().ManagementOS.Netplan)
	})
	if err != nil && ctx.Err() == nil { // the files are restored
		r.Logf(slog.LevelError, "the files of the management OS's network are restored, but could not be applied: %v", err)
		return nil
	}
	return err
}
