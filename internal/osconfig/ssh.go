package osconfig

import (
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

const (
	sshdConfig = "/etc/ssh/sshd_config"
	sshdUsers  = "/etc/ssh/sshd_config.d/global_user.conf"
)

// ssh writes which of the users may log in over SSH, into a file that sshd reads first,
// because sshd uses the first value of a setting (sshd_config(5)). It sets
// PermitRootLogin only if root is one of the users.
func (s setup) ssh(users []hostconfig.User) error {
	there, err := exists(s.root, sshdConfig)
	if err != nil {
		return err
	}
	if !there {
		return refuseSSHUsers(users)
	}
	if err := s.edit(sshdUsers, 0o600, func(string) (string, error) { return sshUsersText(users), nil }); err != nil {
		return err
	}
	return s.edit(sshdConfig, 0o600, func(old string) (string, error) {
		const include = "Include " + sshdUsers
		for _, l := range lines(old) {
			if l = strings.TrimSpace(l); l == "" || l[0] == '#' {
				continue
			}
			if strings.Join(strings.Fields(l), " ") == include {
				return old, nil
			}
			break
		}
		return "# Who may log in is set by Trident (os.users of the Host Configuration).\n" + include + "\n\n" + old, nil
	})
}

func sshUsersText(users []hostconfig.User) string {
	var text string
	var denied []string
	for _, u := range users {
		blocked := u.SSHMode != hostconfig.SSHKeyOnly
		if blocked {
			denied = append(denied, u.Name)
		}
		switch {
		case u.Name != "root":
		case blocked:
			text = "PermitRootLogin no\n"
		default:
			text = "PermitRootLogin prohibit-password\n"
		}
	}
	if denied != nil {
		text += "DenyUsers " + strings.Join(denied, " ") + "\n"
	}
	return text
}

// refuseSSHUsers fails if one of the users is to log in over SSH: the OS has no SSH server.
func refuseSSHUsers(users []hostconfig.User) error {
	var names []string
	for _, u := range slices.DeleteFunc(slices.Clone(users), func(u hostconfig.User) bool { return u.SSHMode != hostconfig.SSHKeyOnly }) {
		names = append(names, u.Name)
	}
	if names == nil {
		return nil
	}
	return errkind.Errorf(errkind.Precondition, "these users have sshMode %s, and the image has no SSH server (no %s): %s",
		hostconfig.SSHKeyOnly, sshdConfig, strings.Join(names, ", "))
}
