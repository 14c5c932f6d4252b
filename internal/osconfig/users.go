package osconfig

import (
	"cmp"
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

// users makes the users that do not exist and changes the others. It edits the files
// itself and runs no useradd: the OS may have another architecture or libc than this
// host, so this host's tools are not fit for it and its tools cannot be run.
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

// user sets up one user. Its order lets a second call finish what a power cut
// interrupted: first the home, whose owner is the user ID that a second call takes
// again; then the line in passwd, from which the user exists; then groups, password and
// keys, which a second call adds to an existing user. gshadow comes before group,
// because a second call makes the user's own group while /etc/group does not have it.
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
		return errkind.Errorf(errkind.Precondition, "the user has sshPublicKeys, and no home in the image to put them in: set homeDirectory")
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
	if len(u.SSHPublicKeys) == 0 { // the keys of the image stay
		return nil
	}
	return s.authorize(p, u.SSHPublicKeys)
}

// account is the desired state of a user.
type account struct {
	name     string
	uid, gid uint32
	home     string
	shell    string
	makeHome bool
	old      []string // its line in passwd, or nil
	group    string   // the user's own group, which is to be made, or ""
}

// plan computes the desired state of the user u, one of all. It changes nothing.
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
	p := account{name: u.Name, home: cmp.Or(u.HomeDirectory, path.Join(defs.homes, u.Name)), shell: cmp.Or(u.StartupCommand, defs.shell), makeHome: true}
	owner, isHome, err := homeOwner(p.home)
	if err != nil {
		return account{}, err
	}
	if p.uid, err = a.newUID(u, all, defs.uids, owner, isHome); err != nil {
		return account{}, err
	}
	switch {
	case u.PrimaryGroup != "" || !defs.ownGroup:
		gid, ok := a.gid(cmp.Or(u.PrimaryGroup, defs.group))
		if !ok {
			return account{}, errkind.Errorf(errkind.Precondition, "group %s, the default primary group of this OS for new users, does not exist", defs.group)
		}
		p.gid = gid
	case a.group.index(u.Name) >= 0:
		err := errkind.Errorf(errkind.Precondition, "the OS has a group %s and no user of that name", u.Name)
		return account{}, errkind.WithHint(err, "Set primaryGroup to %s if that is the user's group.", u.Name)
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
		return account{}, errkind.Errorf(errkind.Corrupt, "the user's line in /etc/passwd has user ID %q and group ID %q, which are not both numbers", shorten(old[2]), shorten(old[3]))
	}
	if u.UID != nil && *u.UID != hostconfig.UserID(uid) {
		return account{}, errkind.Errorf(errkind.Precondition, "the user has user ID %d in the image, and Trident does not change it to %d: the user's files would belong to nobody", uid, *u.UID)
	}
	p := account{name: u.Name, uid: uint32(uid), gid: uint32(gid), home: cmp.Or(u.HomeDirectory, old[5]), shell: cmp.Or(u.StartupCommand, old[6]), old: old}
	p.makeHome = u.HomeDirectory != ""
	if u.PrimaryGroup != "" {
		p.gid, _ = a.gid(u.PrimaryGroup)
	} else if _, there := a.group.ids()[p.gid]; !there && a.group.index(u.Name) < 0 {
		p.group = u.Name
	}
	return p, nil
}

// newUID returns the ID for a new user: the ID in the configuration; else the owner of
// the home if the home exists (its file system may be shared by both slots, and no other
// user must own it) and the ID is free; else a free ID.
func (a *accounts) newUID(u hostconfig.User, all []hostconfig.User, r idRange, owner uint32, isHome bool) (uint32, error) {
	used := a.passwd.ids()
	if u.UID != nil {
		id := uint32(*u.UID) // fits: NameFaults checked it
		if name, ok := used[id]; ok {
			return 0, errkind.Errorf(errkind.Precondition, "user ID %d belongs to user %s in the image", *u.UID, name)
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

// checkGroups fails if groups of the user do not exist, and names them.
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
		"Trident makes no such groups: build them into the image.")
}
