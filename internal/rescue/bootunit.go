package rescue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// The unit by which a rescuer takes up the trial again after a power cut. It
// lies in /etc and runs a copy in /var: both are there whatever is merged.
const (
	BootUnitPath  = "etc/systemd/system/trident-rescue.service"
	BootWantsPath = "etc/systemd/system/multi-user.target.wants/trident-rescue.service"
	// Program is the rescuer of a trial.
	Program = Dir + "/rescue/trident-rescue"
)

// sandbox confines the rescuer; it is that of systemd.Sandbox, which a test compares,
// because this package imports the standard library only.
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

// BootUnit has no condition on the record: a rescuer that finds no trial ends.
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

// bootWants is what the link at BootWantsPath points to.
const bootWants = "../trident-rescue.service"

// EnsureBootUnit has a rescuer started at the next boot of the host below root.
// It reports whether something of that was not there or damaged, and was written.
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

// RemoveBootUnit takes back what EnsureBootUnit did.
func RemoveBootUnit(root string) error {
	var errs []error
	for _, path := range []string{BootWantsPath, BootUnitPath} {
		path = filepath.Join(root, path)
		errs = append(errs, MoveFolderAside(path), atomicfile.Remove(path))
	}
	return errors.Join(errs...)
}

// repairBootUnit writes the boot unit of a trial again where it is damaged.
func (f File) repairBootUnit(operation string) error {
	if f.Root == "" {
		return nil
	}
	wrote, err := EnsureBootUnit(f.Root)
	if wrote && isClosed(f, operation) { // the daemon has ended the trial meanwhile
		err = errors.Join(err, RemoveBootUnit(f.Root))
	}
	return err
}
