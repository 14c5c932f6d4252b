package osconfig

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

// accounts are the files of users and groups. Those of shadow may not be there.
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

// gid finds a group by its name, or else by its number.
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

// putUser writes the user into the files, in memory.
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

// lock puts a ! before the password, as passwd --lock does: no password fits, and
// keys still do. A new one has no dates: a password that nobody has cannot expire,
// and PAM would have the user change it before a login with a key.
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

// ownPassword is what the password field of passwd has beside a mark for shadow.
func ownPassword(password string) string {
	if password == "x" {
		return ""
	}
	return password
}

func withLock(password string) string {
	if strings.HasPrefix(password, "!") || strings.HasPrefix(password, "*") {
		return password
	}
	return "!" + password
}

// join makes the user a member of a group.
func (a *accounts) join(group, user string) error {
	line, err := a.group.find(group)
	if err != nil {
		return err
	}
	if line == nil { // by its number
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
