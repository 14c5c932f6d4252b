package osconfig

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

// users makes the users that are not there, and changes the others. The tree may
// belong to another machine or another libc, so that the tools of this host are of
// no use, and those in the tree are not run: the files are changed here.
func (s setup) users(_ context.Context, o *hostconfig.OS) error {
	if len(o.Users) == 0 {
		return nil
	}
	if err := s.ssh(o.Users); err != nil {
		return err
	}
	defs, err := readDefaults(s.root)
	if err != nil {
		return err
	}
	for _, u := range o.Users {
		if err := s.user(u, o.Users, defs); err != nil {
			return fmt.Errorf("user %s: %w", u.Name, err)
		}
	}
	return nil
}

// user is done in an order that a cut can be anywhere in: the home, which tells
// its user ID; the line in passwd, which says that there is such a user; and all
// that a user has, which is added again to one that is there. A group of its own is
// missing as long as it is not in /etc/group, hence that comes after gshadow.
func (s setup) user(u hostconfig.User, all []hostconfig.User, defs defaults) error {
	a, err := readAccounts(s.root)
	if err != nil {
		return err
	}
	p, err := a.plan(u, all, defs, s.homeOwner)
	if err != nil {
		return err
	}
	if p.home == "" && len(u.SSHPublicKeys) > 0 {
		return errkind.Errorf(errkind.Precondition, "it has no home in the image for its keys: set homeDirectory")
	}
	if p.makeHome || len(u.SSHPublicKeys) > 0 {
		if err := s.makeHome(p, defs); err != nil {
			return err
		}
	}
	if err := a.putUser(u, p); err != nil {
		return err
	}
	for _, d := range []*database{a.passwd, a.gshadow, a.group, a.shadow} {
		if err := s.edit(d.name, 0, func(string) (string, error) { return d.text(), nil }); err != nil {
			return err
		}
	}
	if len(u.SSHPublicKeys) == 0 { // those of the image stay
		return nil
	}
	return s.authorize(p, u.SSHPublicKeys)
}

// account is what a user shall be.
type account struct {
	name     string
	uid, gid uint32
	home     string
	shell    string
	makeHome bool
	old      []string // its line in passwd, or nil
	group    string   // the group of its own that is made, or ""
}

// plan works out what the user shall be. homeOwner is the owner of a folder, if
// there is one.
func (a *accounts) plan(u hostconfig.User, all []hostconfig.User, defs defaults, homeOwner func(string) (uint32, bool, error)) (account, error) {
	old, err := a.passwd.find(u.Name)
	if err != nil {
		return account{}, err
	}
	if err := a.checkGroups(u); err != nil {
		return account{}, err
	}
	if old != nil {
		return a.planChange(u, old)
	}
	p := account{name: u.Name, home: orDefault(u.HomeDirectory, path.Join(defs.homes, u.Name)), shell: orDefault(u.StartupCommand, defs.shell), makeHome: true}
	owner, isHome, err := homeOwner(p.home)
	if err != nil {
		return account{}, err
	}
	if p.uid, err = a.newUID(u, all, defs.uids, owner, isHome); err != nil {
		return account{}, err
	}
	switch {
	case u.PrimaryGroup != "" || !defs.ownGroup:
		gid, ok := a.gid(orDefault(u.PrimaryGroup, defs.group))
		if !ok {
			return account{}, errkind.Errorf(errkind.Precondition, "group %s, the primary one of new users in this OS, does not exist in it", defs.group)
		}
		p.gid = gid
	case a.group.index(u.Name) >= 0:
		err := errkind.Errorf(errkind.Precondition, "the OS has a group %s and no user of that name", u.Name)
		return account{}, errkind.WithHint(err, "Set primaryGroup to %s if the user shall be in it.", u.Name)
	default:
		gids := a.group.ids()
		p.group, p.gid = u.Name, p.uid
		if _, used := gids[p.gid]; used {
			p.gid, err = freeID("group", defs.gids, gids)
		}
	}
	return p, err
}

func (a *accounts) planChange(u hostconfig.User, old []string) (account, error) {
	uid, uidErr := strconv.ParseUint(old[2], 10, 32)
	gid, gidErr := strconv.ParseUint(old[3], 10, 32)
	if uidErr != nil || gidErr != nil {
		return account{}, errkind.Errorf(errkind.Corrupt, "its line in /etc/passwd has user ID %q and group ID %q", shorten(old[2]), shorten(old[3]))
	}
	if u.UID != nil && *u.UID != hostconfig.UserID(uid) {
		return account{}, errkind.Errorf(errkind.Precondition, "it is in the image with user ID %d, and cannot get %d: its files would belong to nobody", uid, *u.UID)
	}
	p := account{name: u.Name, uid: uint32(uid), gid: uint32(gid), home: orDefault(u.HomeDirectory, old[5]), shell: orDefault(u.StartupCommand, old[6]), old: old}
	p.makeHome = u.HomeDirectory != ""
	if u.PrimaryGroup != "" {
		p.gid, _ = a.gid(u.PrimaryGroup)
	} else if _, there := a.group.ids()[p.gid]; !there && a.group.index(u.Name) < 0 {
		p.group = u.Name
	}
	return p, nil
}

// newUID is the user ID that is asked for; or that of the home, where one is there
// already, which may be on a file system that outlives this slot: nobody else
// shall own it; or a free one.
func (a *accounts) newUID(u hostconfig.User, all []hostconfig.User, r idRange, owner uint32, isHome bool) (uint32, error) {
	used := a.passwd.ids()
	if u.UID != nil {
		id := uint32(*u.UID) // in its range: NameFaults
		if name, ok := used[id]; ok {
			return 0, errkind.Errorf(errkind.Precondition, "user ID %d is that of %s in the image", *u.UID, name)
		}
		return id, nil
	}
	for _, other := range all {
		if other.UID != nil {
			used[uint32(*other.UID)] = other.Name
		}
	}
	if _, taken := used[owner]; isHome && !taken && r.contains(owner) {
		return owner, nil
	}
	return freeID("user", r, used)
}

func freeID(what string, r idRange, used map[uint32]string) (uint32, error) {
	id, ok := r.next(func(id uint32) bool { _, ok := used[id]; return ok }, slices.Collect(maps.Keys(used)))
	if !ok {
		return 0, errkind.Errorf(errkind.Precondition, "no %s ID from %d to %d is free", what, r.least, r.most)
	}
	return id, nil
}

// checkGroups is an error that names the groups that do not exist.
func (a *accounts) checkGroups(u hostconfig.User) error {
	var unknown []string
	for _, name := range append([]string{u.PrimaryGroup}, u.SecondaryGroups...) {
		if _, ok := a.gid(name); !ok && name != "" && !slices.Contains(unknown, name) {
			unknown = append(unknown, name)
		}
	}
	if unknown == nil {
		return nil
	}
	return errkind.WithHint(errkind.Errorf(errkind.Precondition, "these groups do not exist in the OS: %s", strings.Join(unknown, ", ")),
		"Groups have to be in the image.")
}
