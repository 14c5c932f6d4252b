package newos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/systemd"
)

// trialTime is the time from boot in which Trident has to confirm a new system.
const trialTime = "15min"

// paramTrial is an internal parameter that replaces trialTime, in the format of
// systemd.time(7). Upstream does not have it.
const paramTrial = "trialTime"

// The units of the guard.
const (
	guardTimer   = "trident-trial.timer"
	guardService = "trident-trial.service"
	unitDir      = "/etc/systemd/system/"
	guardLink    = unitDir + "sysinit.target.wants/" + guardTimer
	evidenceFile = "var/lib/trident/trial-journal"
)

// guard adds a systemd timer to the new OS that reboots it, into the old OS, unless Trident
// confirms it in time: its Trident may not start, or its boot may end in an emergency shell.
// The timer needs systemd only. "settle" removes it.
func (o *OS) guard(_ context.Context, r *record.Run, c *hostconfig.Config, root string) error {
	limit := trialTime
	if t, ok := c.Spec().InternalParams[paramTrial].(string); ok {
		limit = t
	}
	if r.State.Purpose == record.Installs { // there is no old system
		return nil
	}
	err := o.put(root, unitDir+guardTimer, 0o644, `# Written by Trident for the first boots of a new system.
[Unit]
Description=Time for Trident to confirm this system
DefaultDependencies=no

[Timer]
OnBootSec=`+limit+`
AccuracySec=1s
`)
	if err == nil {
		err = o.put(root, unitDir+guardService, 0o644, `# Written by Trident for the first boots of a new system.
[Unit]
Description=Reboot into the previous system, because Trident has not confirmed this one
DefaultDependencies=no
SuccessAction=reboot-force
FailureAction=reboot-force

[Service]
Type=oneshot
ExecStart=-/usr/bin/journalctl --boot --no-pager --lines=200 --unit=tridentd.service --unit=trident.service --unit=init.scope
StandardOutput=truncate:/`+evidenceFile+`
TimeoutStartSec=30s
`+systemd.Sandbox())
	}
	if err == nil {
		err = o.Touch("link guard", func() error { return osconfig.Link(root, guardLink, "../"+guardTimer) })
	}
	return err
}

// RemoveGuard removes the guard from the running OS. It unmerges confexts that make /etc
// read-only, and merges them again; after a power cut, the next call merges them. The
// read-only overlay on /etc of a verified root is writable for a moment.
func (o *OS) RemoveGuard(ctx context.Context) error {
	err := o.Touch("stop guard", func() error { return o.Systemd.Stop(ctx, guardTimer) })
	closed, cerr := o.EtcIsReadOnly(o.Root)
	err = errors.Join(err, cerr)
	if closed {
		err = errors.Join(err, o.UnmergeConfexts(ctx))
	}
	err = errors.Join(err, o.removeGuardFiles())
	st, serr := o.State(ctx)
	err = errors.Join(err, serr)
	if closed || st.Runs != nil && len(st.Runs.Spec().OS.Confexts) > 0 {
		err = errors.Join(err, o.MergeConfexts(ctx))
	}
	return errors.Join(err, o.Systemd.Reload(ctx))
}

// removeGuardFiles removes the files of the guard that exist.
func (o *OS) removeGuardFiles() (err error) {
	var exist []string
	inEtc := false
	for _, name := range []string{guardLink, unitDir + guardTimer, unitDir + guardService, "/" + evidenceFile} {
		if _, lerr := os.Lstat(filepath.Join(o.Root, name)); lerr == nil {
			exist = append(exist, name)
			inEtc = inEtc || strings.HasPrefix(name, unitDir)
		}
	}
	if inEtc {
		closeEtc, oerr := o.openEtc()
		if oerr != nil {
			return oerr
		}
		defer func() { err = errors.Join(err, closeEtc()) }()
	}
	for _, name := range exist {
		err = errors.Join(err, o.Touch("remove guard", func() error { return osconfig.Remove(o.Root, name) }))
	}
	return err
}

// openEtc makes /etc writable if a read-only file system is mounted there, as over a verified
// root, and returns what makes it read-only again.
func (o *OS) openEtc() (closeEtc func() error, err error) {
	etc := filepath.Join(o.Root, "etc")
	var st unix.Statfs_t
	if err := unix.Statfs(etc, &st); err != nil {
		return nil, fmt.Errorf("find out whether %s is read-only: %w", etc, err)
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return func() error { return nil }, nil
	}
	flags := uintptr(unix.MS_REMOUNT | st.Flags&(unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOEXEC))
	remount := func(flags uintptr) error {
		if err := unix.Mount("", etc, "", flags, ""); err != nil {
			return fmt.Errorf("remount %s: %w", etc, err)
		}
		return nil
	}
	return func() error { return remount(flags | unix.MS_RDONLY) }, remount(flags)
}

// Evidence returns the end of the journal that the guard saved, or "".
func (o *OS) Evidence() string {
	data, err := os.ReadFile(filepath.Join(o.Root, evidenceFile))
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(string(data[max(0, len(data)-hooks.MaxSaid):]))
	return text
}

// RemoveEvidence removes what the guard of an earlier trial has saved.
func (o *OS) RemoveEvidence() error {
	return o.Touch("remove evidence", func() error { return osconfig.Remove(o.Root, "/"+evidenceFile) })
}

// Places returns the files that this package needs to undo an operation.
func Places() []string { return []string{unitDir + guardTimer, unitDir + guardService, guardLink} }
