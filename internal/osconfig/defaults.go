package osconfig

import (
	"cmp"
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/linux/inroot"
)

// defaults are the settings by which an OS makes users.
type defaults struct {
	uids, gids idRange
	ownGroup   bool   // each new user gets a group of the user's name
	group      string // the primary group of new users without ownGroup: a name or a number
	homes      string // the folder of home folders
	homeMode   fs.FileMode
	shell      string
	skeleton   string // the folder whose content a new home is a copy of
}

const (
	loginDefs       = "etc/login.defs"
	useraddDefaults = "etc/default/useradd"
)

// readDefaults reads login.defs(5) and the defaults of useradd(8). A setting that is in
// neither has useradd's built-in value; only the mode of homes is stricter, 0700.
func readDefaults(root string) (defaults, error) {
	login, err := readSettings(root, loginDefs)
	if err != nil {
		return defaults{}, err
	}
	useradd, err := readSettings(root, useraddDefaults)
	if err != nil {
		return defaults{}, err
	}
	d := defaults{
		uids:     idRange{parseNumber(login["UID_MIN"], 1000), parseNumber(login["UID_MAX"], 60000)},
		gids:     idRange{parseNumber(login["GID_MIN"], 1000), parseNumber(login["GID_MAX"], 60000)},
		ownGroup: login["USERGROUPS_ENAB"] != "no",
		group:    cmp.Or(useradd["GROUP"], "100"),
		homes:    cmp.Or(useradd["HOME"], "/home"),
		homeMode: 0o700,
		shell:    cmp.Or(useradd["SHELL"], "/bin/sh"),
		skeleton: cmp.Or(useradd["SKEL"], "/etc/skel"),
	}
	if mode, err := strconv.ParseUint(login["HOME_MODE"], 8, 32); err == nil && mode <= 0o777 {
		d.homeMode = fs.FileMode(mode)
	}
	return d, nil
}

// readSettings reads lines of a key and a value, separated by blanks or "=". The last
// line of a key counts. It returns no settings for a missing file.
func readSettings(root, name string) (map[string]string, error) {
	data, err := inroot.FS(root).ReadFile(name, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, l := range lines(string(data)) {
		l = strings.TrimSpace(l)
		if i := strings.IndexAny(l, "= \t"); i > 0 && l[0] != '#' {
			out[l[:i]] = strings.Trim(l[i+1:], " \t\"'")
		}
	}
	return out, nil
}

func parseNumber(s string, otherwise uint32) uint32 {
	if n, err := strconv.ParseUint(s, 0, 32); err == nil {
		return uint32(n)
	}
	return otherwise
}
