package osconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
)

const selinuxFile = "/etc/selinux/config"

var policyName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// A Policy is the mode and the policy of SELinux in an OS.
type Policy struct {
	Mode hostconfig.SELinuxMode // enforcing or permissive
	// Contexts is the path, in the OS, of the file that says which label each file has.
	Contexts string
}

// PolicyOf returns the policy that the OS in root will load when it boots, found as
// selinux(8) describes. It is nil if the OS has no SELinux, if SELinux is disabled, or
// if the policy is missing.
func PolicyOf(root string) (*Policy, error) {
	data, err := inroot.FS(root).ReadFile(selinuxFile[1:], maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errkind.WithName(fmt.Errorf("find the mode of SELinux: %w", err), errkind.NameGetSelinuxMode)
	}
	mode, kind := selinuxSettings(string(data))
	if mode != hostconfig.SELinuxEnforcing && mode != hostconfig.SELinuxPermissive {
		return nil, nil
	}
	if !policyName.MatchString(kind) || strings.Trim(kind, ".") == "" {
		err := errkind.Errorf(errkind.Corrupt, "find the policy of SELinux: %s has SELINUXTYPE=%s, which is not the name of a policy", selinuxFile, shorten(kind))
		return nil, errkind.WithName(err, errkind.NameGetSelinuxType)
	}
	p := &Policy{mode, "/etc/selinux/" + kind + "/contexts/files/file_contexts"}
	there, err := exists(root, p.Contexts)
	if err != nil || !there {
		return nil, errkind.WithName(err, errkind.NameGetSelinuxType)
	}
	return p, nil
}

func selinuxSettings(text string) (mode hostconfig.SELinuxMode, kind string) {
	kind = "targeted"
	for _, l := range lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(l), "=")
		value = strings.TrimSpace(value)
		switch {
		case key == "SELINUX" && mode == "": // libselinux takes the first
			mode = hostconfig.SELinuxMode(strings.ToLower(value))
		case key == "SELINUXTYPE":
			kind = value
		}
	}
	return mode, kind
}

// Inherit gives the file path, of this host, the SELinux label of its folder: the label
// that the kernel would have given it under SELinux. It returns nil if the folder has no
// label.
func Inherit(path string) error {
	label := make([]byte, 1024)
	n, err := unix.Lgetxattr(filepath.Dir(path), labelName, label)
	if err == nil {
		err = unix.Lsetxattr(path, labelName, label[:n], 0)
	}
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("label %s: %w", path, err)
	}
	return nil
}

// selinux sets the mode in SELinux's configuration file, and not on the command line of
// the kernel, which may be part of a signed UKI.
func (s setup) selinux(_ context.Context, o *hostconfig.OS) error {
	mode := o.SELinux.Mode
	if mode == "" {
		return nil
	}
	there, err := exists(s.root, selinuxFile)
	if err != nil {
		return err
	}
	if !there {
		if mode == hostconfig.SELinuxDisabled {
			return nil
		}
		err := errkind.Errorf(errkind.Invalid, "mode %s: the image has no SELinux (no %s)", mode, selinuxFile)
		return errkind.WithName(err, errkind.NameSelinuxEnabledButNotFound)
	}
	return s.edit(selinuxFile, 0o644, func(old string) (string, error) { return selinuxText(old, mode), nil })
}

func selinuxText(old string, mode hostconfig.SELinuxMode) string {
	const key = "SELINUX="
	var now strings.Builder
	found := false
	for _, l := range lines(old) {
		if strings.HasPrefix(strings.TrimSpace(l), key) {
			l, found = key+string(mode)+"\n", true
		}
		now.WriteString(l)
	}
	if !found {
		return withLine(old, key+string(mode))
	}
	return now.String()
}
