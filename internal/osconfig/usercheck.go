package osconfig

import (
	"fmt"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig"
)

func checkUsers(section string, users []hostconfig.User) []error {
	var faults []error
	ids := map[uint32]int{}
	for i, u := range users {
		at := fmt.Sprintf("%s[%d].", section, i)
		fault := func(key, format string, args ...any) { faults = append(faults, invalid(at+key, format, args...)) }
		if !isAccountName(u.Name) {
			fault("name", "%q is no name of a user: wants up to 32 letters, digits, dots, hyphens and underscores, and no hyphen first", brief(u.Name))
		}
		if u.UID != nil {
			if j, twice := ids[*u.UID]; twice {
				fault("uid", "%d is that of %s[%d] already", *u.UID, section, j)
			}
			ids[*u.UID] = i
			if *u.UID == ^uint32(0) || *u.UID == 0xffff { // (uid_t) -1, of 32 and of 16 bits
				fault("uid", "%d means no user", *u.UID)
			}
		}
		if h := u.HomeDirectory; h != "" && (!path.IsAbs(h) || !isField(h)) {
			fault("homeDirectory", "%q is no absolute path, or has a colon or a line break", brief(h))
		}
		if !isField(u.StartupCommand) {
			fault("startupCommand", "%q has a colon or a line break", brief(u.StartupCommand))
		}
		if u.PrimaryGroup != "" && !isAccountName(u.PrimaryGroup) && !made(u.PrimaryGroup, 1, 10, digits) {
			fault("primaryGroup", "%q is no name of a group", brief(u.PrimaryGroup))
		}
		for j, g := range u.SecondaryGroups {
			if !isAccountName(g) && !made(g, 1, 10, digits) {
				fault(fmt.Sprintf("secondaryGroups[%d]", j), "%q is no name of a group", brief(g))
			}
		}
		for j, key := range u.SSHPublicKeys {
			if key = strings.TrimSpace(key); key == "" || strings.ContainsFunc(key, isControl) {
				fault(fmt.Sprintf("sshPublicKeys[%d]", j), "it is not one line of text")
			}
		}
	}
	return faults
}

// isAccountName follows useradd(8).
func isAccountName(name string) bool {
	stem := strings.TrimSuffix(name, "$")
	return made(stem, 1, 32, letters+digits+"_.-") && len(name) <= 32 && stem[0] != '-' && strings.Trim(stem, ".") != "" && !made(stem, 1, 32, digits)
}

// isField says whether s can be a field of passwd(5).
func isField(s string) bool {
	return len(s) <= 4096 && !strings.ContainsRune(s, ':') && !strings.ContainsFunc(s, isControl)
}
