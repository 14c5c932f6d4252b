package osconfig

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

// accounts are the files of users and groups of one OS. The two shadow files may be missing.
type accounts struct{ passwd, shadow, group, gshadow *database }

func readAccounts(root string) (*accounts, error) {
	a := &accounts{}
	for _, f := range []struct {
		to     **database
		name   string
		fields int
		must   bool
	}{
		{&a.passwd, "/etc/passwd", passwdFields, true}, {&a.group, "/etc/group", groupFields, true},
		{&a.shadow, "/etc/shadow", shadowFields, false}, {&a.gshadow, "/etc/gshadow", gshadowFields, false},
	} {
		d, err := readDatabase(root, f.name, f.fields)
		if err != nil {
			return nil, err
		}
		if f.must && !d.exists {
			return nil, errkind.Errorf(errkind.Precondition, "the image has no %s", f.name)
		}
		*f.to = d
	}
	return a, nil
}

// gid returns the ID of the group with that name or, if no group has it, with that
// number; false where there is no such group.
func (a *accounts) gid(name string) (uint32, bool) {
	for id, n := range a.group.ids() {
		if n == name {
			return id, true
		}
	}
	id, err := strconv.ParseUint(name, 10, 32)
	if _, ok := a.group.ids()[uint32(id)]; err == nil && ok {
		return uint32(id), true
	}
	return 0, false
}

// putUser adds or changes the lines of the user in a, in memory. The caller writes the
// files.
func (a *accounts) putUser(u hostconfig.User, p account) error {
	line := p.old
	if line == nil {
		line = []string{p.name, "x", "", "", "", "", ""}
	}
	line = slices.Clone(line)
	line[2], line[3], line[5], line[6] = fmt.Sprint(p.uid), fmt.Sprint(p.gid), p.home, p.shell
	if !a.shadow.exists {
		line[1] = withLock(ownPassword(line[1]))
	} else if err := a.lock(p.name, &line[1]); err != nil {
		return err
	}
	a.passwd.set(line)
	if p.group != "" {
		a.group.set([]string{p.group, "x", fmt.Sprint(p.gid), ""})
		if a.gshadow.exists {
			a.gshadow.set([]string{p.group, "!", "", ""})
		}
	}
	for _, name := range u.SecondaryGroups {
		if err := a.join(name, p.name); err != nil {
			return err
		}
	}
	return nil
}

// lock puts a ! before the user's password, as passwd --lock does: no password is
// accepted, and SSH keys still are. lock leaves the dates of a new shadow line empty:
// with dates, PAM would ask the user to change an expired password before a login
// with a key. inPasswd is the password field of the user's passwd line.
func (a *accounts) lock(name string, inPasswd *string) error {
	line, err := a.shadow.find(name)
	if err != nil {
		return err
	}
	if line == nil {
		line = []string{name, ownPassword(*inPasswd), "", "", "", "", "", "", ""}
	}
	line[1], *inPasswd = withLock(line[1]), "x"
	a.shadow.set(line)
	return nil
}

// ownPassword returns the password that a field of passwd has itself: "" where the
// field is x, which refers to shadow.
func ownPassword(password string) string {
	if password == "x" {
		return ""
	}
	return password
}

// withLock returns the password field with a ! before it, unless it is locked already.
func withLock(password string) string {
	if strings.HasPrefix(password, "!") || strings.HasPrefix(password, "*") {
		return password
	}
	return "!" + password
}

// join makes the user a member of a group, which is given by name or number and
// must exist.
func (a *accounts) join(group, user string) error {
	line, err := a.group.find(group)
	if err != nil {
		return err
	}
	if line == nil { // group is a number
		id, _ := a.gid(group)
		group = a.group.ids()[id]
		if line, err = a.group.find(group); err != nil {
			return err
		}
	}
	line[3] = withMember(line[3], user)
	a.group.set(line)
	shadow, err := a.gshadow.find(group)
	if err != nil || shadow == nil {
		return err
	}
	shadow[3] = withMember(shadow[3], user)
	a.gshadow.set(shadow)
	return nil
}
