// Package liveos recognises a live system, and gives it the users and the network that an
// installation needs.
package liveos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/moby/sys/mountinfo"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// managementDir has copies of the live system's previous network files. It is not a folder
// of operations, because Trident deletes those before the undo needs the copies.
const managementDir = "var/lib/trident/management-os"

// Places returns the folder that this package needs to undo an operation.
func Places() []string { return []string{"/" + managementDir} }

// Live is the live system of one host.
type Live struct{ *change.Host }

// SetUp gives the live system the users and the network of managementOs. The
// Undo restores the network, and leaves the users.
func (l *Live) SetUp(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	m := &c.Spec().ManagementOS
	if r.State.Purpose != record.Installs || m.Netplan == nil && len(m.Users) == 0 {
		return nil
	}
	if err := CheckLive(l.Root); err != nil {
		return err
	}
	if len(m.Users) > 0 {
		if err := osconfig.SetupUsers(ctx, l.Root, "managementOs.users", m.Users, l.Touch); err != nil {
			return err
		}
		if err := l.reloadSSH(ctx); err != nil {
			return err
		}
		r.Logf(slog.LevelInfo, "the users of the management OS are set up")
	}
	return l.managementNetwork(ctx, r, m.Netplan)
}

// reloadSSH has a running SSH server read its users' settings again.
func (l *Live) reloadSSH(ctx context.Context) error {
	for _, unit := range []string{"ssh.service", "sshd.service"} {
		u, err := l.Systemd.Unit(ctx, unit)
		if errkind.Of(err) == errkind.NotFound || err == nil && u.Active != "active" {
			continue
		}
		if err == nil {
			err = l.Touch("reload "+unit, func() error { return l.Systemd.ReloadOrRestart(ctx, unit) })
		}
		if err != nil {
			return errkind.WithName(fmt.Errorf("reload the SSH server: %w", err), errkind.NameSetUpUsers)
		}
		return nil // the other unit is an alias
	}
	return nil
}

func (l *Live) managementNetwork(ctx context.Context, r *record.Run, n hostconfig.Netplan) error {
	if n == nil {
		return nil
	}
	if !r.State.ManagementBegun {
		if same, err := l.hasNetwork(n); err != nil || same {
			return err
		}
		if err := l.keepManagement(r); err != nil {
			return errkind.WithName(err, errkind.NameBackupNetplanConfig)
		}
		r.State.ManagementBegun = true
		if err := r.Save(ctx); err != nil {
			return err
		}
	}
	if err := l.Touch("write network", func() error { return osconfig.WriteNetwork(l.Root, n) }); err != nil {
		return errkind.WithName(fmt.Errorf("set up managementOs.netplan: %w", err), errkind.NameWriteNetplanConfig)
	}
	err := l.Touch("apply network", func() error { return l.ApplyNetplan(ctx) })
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
func (l *Live) hasNetwork(n hostconfig.Netplan) (bool, error) {
	want, err := osconfig.NetplanText(n)
	if err != nil {
		return false, err
	}
	have, err := inroot.FS(l.Root).ReadFile(osconfig.Netplan[1:], 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return bytes.Equal(have, want), err
}

func (l *Live) keptManagement(i int) string {
	return filepath.Join(l.Root, managementDir, strconv.Itoa(i))
}

func (l *Live) keepManagement(r *record.Run) error {
	names := []string{osconfig.Netplan, osconfig.CloudInit}
	r.State.ManagementKept = make([]osconfig.Kept, len(names))
	return l.Touch("keep network", func() error {
		err := os.MkdirAll(filepath.Join(l.Root, managementDir), 0o700)
		for i, name := range names {
			if err == nil {
				r.State.ManagementKept[i], err = osconfig.Keep(l.Root, name, l.keptManagement(i))
			}
		}
		return err
	})
}

// Restore restores the network of the live system, unless the host has rebooted
// since.
func (l *Live) Restore(ctx context.Context, r *record.Run) error {
	if r.State.HasRebooted(l.Runner.Life.Boot) {
		return nil
	}
	if r.State.ManagementBegun {
		if err := l.restoreManagementNetwork(ctx, r); err != nil {
			return err
		}
		r.State.ManagementBegun = false // before the first copy is deleted
		if err := r.Save(ctx); err != nil {
			return err
		}
	}
	dir := filepath.Join(l.Root, managementDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return l.Touch("discard copies", func() error { return os.RemoveAll(dir) })
}

func (l *Live) restoreManagementNetwork(ctx context.Context, r *record.Run) error {
	c, err := r.State.Config()
	if err != nil {
		return err
	}
	for i, k := range r.State.ManagementKept {
		if err := l.RestoreKept(r, k, l.keptManagement(i)); err != nil {
			return err
		}
	}
	err = l.Touch("apply network again", func() error {
		return l.ApplyFormerNetwork(ctx, r, filepath.Join(l.Root, managementDir, "taken-back"), c.Spec().ManagementOS.Netplan)
	})
	if err != nil && ctx.Err() == nil { // the files are restored
		r.Logf(slog.LevelError, "the files of the management OS's network are restored, but could not be applied: %v", err)
		return nil
	}
	return err
}

// Effects describes what SetUp does.
func Effects(p *record.Examined) []change.Effect {
	var out change.Effects
	if p.Record.Purpose != record.Installs {
		return nil
	}
	m := &p.Config.Spec().ManagementOS
	for _, u := range m.Users {
		out.Add("set-up-management-user", u.Name, "set up the user %s of the live system", u.Name)
	}
	if m.Netplan != nil {
		out.Add("apply-management-netplan", "", "set up the network of the live system")
	}
	return out
}

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
