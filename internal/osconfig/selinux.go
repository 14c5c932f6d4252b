package osconfig

import (
	"context"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

const selinuxFile = "/etc/selinux/config"

// selinux sets the mode in the file that systemd reads when it loads the policy;
// the command line of the kernel may be sealed.
func (s setup) selinux(_ context.Context, o *hostconfig.OS) error {
	mode := o.SELinux.Mode
	if mode == "" {
		return nil
	}
	there, err := isThere(s.root, selinuxFile)
	if err != nil {
		return err
	}
	if !there {
		if mode == hostconfig.SELinuxDisabled {
			return nil
		}
		err := errkind.Errorf(errkind.Invalid, "mode %s: the image has no SELinux: there is no %s in it", mode, selinuxFile)
		return errkind.WithName(err, "SelinuxEnabledButNotFound")
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
