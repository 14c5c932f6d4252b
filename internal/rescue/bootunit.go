package rescue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// Paths of the boot unit, by which a rescuer resumes the trial after a power cut.
// The unit is in /etc and runs a copy of the rescuer in /var, because both exist
// whatever is merged over /usr.
const (
	BootUnitPath  = "etc/systemd/system/trident-rescue.service"
	BootWantsPath = "etc/systemd/system/multi-user.target.wants/trident-rescue.service"
	// Program is the copy of the rescuer that judges a trial.
	Program = Dir + "/rescue/trident-rescue"
)

// sandbox confines the rescuer. Its lines are those of systemd.Sandbox: this
// package imports the standard library only, so a test compares the two.
const sandbox = `CapabilityBoundingSet=
ProtectHome=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
UMask=0077
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateNetwork=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelTunables=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
`

// BootUnit is the text of the boot unit. It has no condition on the record: a
// rescuer without a trial exits at once.
const BootUnit = `[Unit]
Description=Trident rescuer: judges an unfinished trial after a reboot
After=tridentd.socket systemd-sysext.service
StartLimitIntervalSec=0

[Service]
ExecStart=/` + Program + ` watch
Restart=on-failure
RestartSec=1s
` + sandbox + `
[Install]
WantedBy=multi-user.target
`

// bootWants is the target of the link at BootWantsPath.
const bootWants = "../trident-rescue.service"

// EnsureBootUnit writes the boot unit and the link that starts a rescuer at the
// next boot of the host below root. It reports whether it wrote anything because a
// file was missing or damaged.
func EnsureBootUnit(root string) (wrote bool, err error) {
	unit, wants := filepath.Join(root, BootUnitPath), filepath.Join(root, BootWantsPath)
	text, err := readRegular(unit, int64(len(BootUnit)), syscall.O_NOFOLLOW)
	unitOK := err == nil && string(text) == BootUnit
	link, err := os.Readlink(wants)
	wantsOK := err == nil && link == bootWants
	if unitOK && wantsOK {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(wants), 0o755); err != nil {
		return false, fmt.Errorf("write rescue unit: %w", err)
	}
	if !unitOK {
		if err := replace(unit, []byte(BootUnit), 0o644); err != nil {
			return false, fmt.Errorf("write rescue unit: %w", err)
		}
	}
	if !wantsOK {
		if err := MoveFolderAside(wants); err != nil {
			return true, fmt.Errorf("write rescue unit: %w", err)
		}
		err = atomicfile.Symlink(bootWants, wants)
	}
	return true, err
}

// RemoveBootUnit removes the boot unit and its link. It returns nil if they do not
// exist.
func RemoveBootUnit(root string) error {
	var errs []error
	for _, path := range []string{BootWantsPath, BootUnitPath} {
		path = filepath.Join(root, path)
		errs = append(errs, MoveFolderAside(path), atomicfile.Remove(path))
	}
	return errors.Join(errs...)
}

// repairBootUnit writes the boot unit of a trial again if the unit is missing or
// damaged, and removes it if the trial has ended meanwhile. It does nothing
// without a Root.
func (f File) repairBootUnit(operation string) error {
	if f.Root == "" {
		return nil
	}
	wrote, err := EnsureBootUnit(f.Root)
	if wrote && isClosed(f, operation) { // the daemon ended the trial in between
		err = errors.Join(err, RemoveBootUnit(f.Root))
	}
	return err
}
