package content

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// Trident is the name and the SYSEXT_ID of the extension that is Trident itself.
const Trident = "trident"

// reserved returns the paths that an extension of others must not have: Trident's
// programs, units and texts (the paths that its own image may have, except shared folders), its settings,
// and the certificates by which systemd accepts extensions, which Trident's own extension
// must not have either. A path includes everything below it. Each element is a pattern of
// path.Match in lower case, and matches names in any case, because the file system of a
// host may not distinguish them.
func reserved() [][]string {
	var out [][]string
	for _, pattern := range []string{
		"usr/bin/trident*", "usr/sbin/trident*", "usr/local/bin/trident*", "usr/local/sbin/trident*",
		"usr/lib/trident", "usr/lib/sysusers.d/trident-gateway.conf", "usr/lib/extension-release.d/extension-release." + Trident,
		"usr/share/man/man*/trident*", "usr/share/doc/trident", "usr/share/licenses/trident",
		"usr/share/bash-completion/completions/trident*", "usr/share/zsh/site-functions/_trident*", "usr/share/fish/vendor_completions.d/trident*",
		"etc/trident",
		"usr/lib/verity.d", "usr/local/lib/verity.d", "etc/verity.d",
	} {
		out = append(out, strings.Split(pattern, "/"))
	}
	for _, dir := range []string{"usr/lib/systemd/system", "usr/local/lib/systemd/system", "etc/systemd/system"} {
		// Drop-ins in service.d and the like apply to every unit of a type (systemd.unit(5)).
		for _, pattern := range []string{"trident*", "*.wants/trident*", "*.requires/trident*", "*.upholds/trident*", "service.d", "socket.d", "path.d"} {
			out = append(out, strings.Split(dir+"/"+pattern, "/"))
		}
	}
	return out
}

// ErrReserved is the error that CheckReserved wraps.
var ErrReserved = errors.New("only the extension " + Trident + ", signed by a certificate of trust.d, may do that")

// CheckReserved fails if the tree of another extension has a file that is reserved for
// Trident, or would hide such a file of the host: by a link, a whiteout or another file in
// the place of a folder of its path, or by an attribute with which overlayfs hides the
// content of a folder. The error is of kind Forbidden and wraps ErrReserved.
func CheckReserved(fsys fs.FS) error {
	c := reservedCheck{fsys}
	err := c.dir(".", reserved())
	if errors.Is(err, fs.ErrNotExist) { // the tree of a partition for /usr alone has no root folder
		info, statErr := fs.Lstat(fsys, "usr")
		if statErr != nil {
			return statErr
		}
		return c.entry(".", "usr", info.Mode(), reserved())
	}
	return err
}

type reservedCheck struct{ fsys fs.FS }

// dir checks the entries of a folder against the rest of the patterns that match its path.
func (c reservedCheck) dir(name string, patterns [][]string) error {
	f, err := c.fsys.Open(name)
	if err != nil {
		return err
	}
	if attr := overlayAttr(f); attr != "" {
		_ = f.Close()
		return forbidden("the folder %q has the extended attribute %s, which hides files of the host", name, attr)
	}
	return eachEntry(f, name, func(e fs.DirEntry) error { return c.entry(name, e.Name(), e.Type(), patterns) })
}

func (c reservedCheck) entry(dir, base string, mode fs.FileMode, patterns [][]string) error {
	name := path.Join(dir, base)
	var deeper [][]string
	ours := false // the folder has files of Trident
	for _, p := range patterns {
		ours = ours || len(p) == 1 && p[0] == Trident+"*"
		if matched, err := path.Match(p[0], strings.ToLower(base)); err != nil || !matched {
			continue
		}
		if len(p) == 1 {
			return forbidden("it carries %q", name)
		}
		deeper = append(deeper, p[1:])
	}
	isLink := mode&fs.ModeSymlink != 0
	if isLink && ours { // a link to a unit is another name, with which drop-ins can change the unit
		if target, err := fs.ReadLink(c.fsys, name); err == nil && strings.HasPrefix(strings.ToLower(path.Base(target)), Trident) {
			return forbidden("it carries %q, another name for %q", name, path.Base(target))
		}
	}
	switch {
	case len(deeper) == 0:
		return nil
	case isLink:
		return forbidden("it carries a link at %q, which hides a folder of the host", name)
	case !mode.IsDir():
		return forbidden("it carries a file at %q, which hides a folder of the host", name)
	}
	return c.dir(name, deeper)
}

func forbidden(format string, args ...any) error {
	return errkind.Errorf(errkind.Forbidden, "%s: %w", fmt.Sprintf(format, args...), ErrReserved)
}
