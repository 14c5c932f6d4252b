package extension

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// OwnPath is the path of the extension that is Trident itself. Only package selfservice
// writes it, after package trust has verified the image.
const OwnPath = "/var/lib/extensions/" + Own + ".raw"

// reserved returns the paths that an extension of others must not have: Trident's
// programs, units and texts (the paths of ownPath, except shared folders), its settings,
// and the certificates by which systemd accepts extensions, which Trident's own extension
// must not have either. A path includes everything below it. Each element is a pattern of
// path.Match in lower case, and matches names in any case, because the file system of a
// host may not distinguish them.
func reserved() [][]string {
	var out [][]string
	for _, pattern := range []string{
		"usr/bin/trident*", "usr/sbin/trident*", "usr/local/bin/trident*", "usr/local/sbin/trident*",
		"usr/lib/trident", "usr/lib/extension-release.d/extension-release." + Own,
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
var ErrReserved = errors.New("only the extension " + Own + ", signed by a certificate of trust.d, may do that")

// CheckReserved fails if the tree of another extension has a file that is reserved for
// Trident, or would hide such a file of the host: by a link, a whiteout or another file in
// the place of a folder of its path, or by an attribute with which overlayfs hides the
// content of a folder. The error is of kind Forbidden and wraps ErrReserved.
func CheckReserved(fsys fs.FS) error {
	c := reservedCheck{fsys}
	err := c.dir(".", reserved())
	if errors.Is(err, fs.ErrNotExist) { // usrFS has no root folder
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
		ours = ours || len(p) == 1 && p[0] == Own+"*"
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
		if target, err := fs.ReadLink(c.fsys, name); err == nil && strings.HasPrefix(strings.ToLower(path.Base(target)), Own) {
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

// overlayAttr returns the name of an attribute of overlayfs on a folder, or ""
// (Documentation/filesystems/overlayfs.rst).
func overlayAttr(f fs.File) string {
	if file, ok := f.(*os.File); ok {
		names := make([]byte, 64<<10)
		n, err := unix.Flistxattr(int(file.Fd()), names)
		if err != nil {
			return ""
		}
		for name := range strings.SplitSeq(string(names[:n]), "\x00") {
			if isOverlayAttr(name) {
				return name
			}
		}
		return ""
	}
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	if x, ok := info.(interface{ GetAllXattr() map[string]string }); ok {
		for _, name := range slices.Sorted(maps.Keys(x.GetAllXattr())) {
			if isOverlayAttr(name) {
				return name
			}
		}
	}
	return ""
}

// checkReserved is CheckReserved for a found extension of others. It ignores parts that it
// cannot read.
func (c checker) checkReserved(f Found, mount mounter) error {
	if f.Class == Sysext && f.Path == OwnPath && f.Kind == Raw {
		return nil
	}
	hint := fmt.Sprintf("Remove %s, or ask its vendor for one without that file.", f.Path)
	if f.Class == Sysext && f.Name == Own {
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "extension %s (%s) hides Trident's own (%s) or is taken for it", f.Name, f.Path, OwnPath),
			"Remove %s, or give it another name.", f.Path)
	}
	err := c.reservedIn(f, mount)
	if !errors.Is(err, ErrReserved) {
		return nil
	}
	return errkind.WithHint(errkind.Errorf(errkind.Precondition, "extension %s (%s) interferes with Trident: %w", f.Name, f.Path, err), "%s", hint)
}

func (c checker) reservedIn(f Found, mount mounter) error {
	opened, err := c.root.Open(strings.TrimPrefix(f.Path, "/"))
	if err != nil {
		return err
	}
	defer opened.Close()
	file, ok := opened.(*os.File)
	if !ok {
		return nil
	}
	switch f.Kind {
	case Directory:
		return reservedInFolder(file)
	case Raw:
		return reservedInImage(file, mount)
	case Versioned: // which entry is merged depends on systemd's version
		names, err := c.root.List(strings.TrimPrefix(f.Path, "/"))
		if err != nil {
			return err
		}
		for _, name := range names {
			if entry, ok := c.entryOf(f, name); ok {
				if err := c.reservedIn(entry, mount); errors.Is(err, ErrReserved) {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
	}
	return nil
}

// entryOf returns the entry name of the folder of versions f; false if systemd ignores it.
func (c checker) entryOf(f Found, name string) (Found, bool) {
	entry := Found{Class: f.Class, Name: f.Name, Path: path.Join(f.Path, name), Kind: Directory}
	info, err := c.root.Stat(strings.TrimPrefix(entry.Path, "/"))
	if err != nil {
		return entry, false
	}
	if info.Mode().IsRegular() {
		entry.Kind = Raw
	}
	return entry, info.IsDir() || info.Mode().IsRegular()
}

// reservedInFolder follows no link in the folder.
func reservedInFolder(dir *os.File) (err error) {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return CheckReserved(root.FS())
}

// reservedInImage checks every file system of an image, as the tree of the root and as
// that of /usr: which of them systemd mounts, and where, depends on the others, on the
// host and on systemd's version. It skips a file system that it cannot read.
func reservedInImage(file *os.File, mount mounter) error {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	whole := io.NewSectionReader(file, 0, info.Size())
	all := []*io.SectionReader{whole}
	if kind, err := detect(whole); err == nil && kind == formatGPT {
		parts, err := readTable(whole)
		if err != nil {
			return nil
		}
		all = nil
		for _, p := range parts {
			all = append(all, io.NewSectionReader(whole, p.offset, p.end-p.offset))
		}
	}
	for _, data := range all {
		kind, err := detect(data)
		if err != nil || !isFileSystem(kind) {
			continue
		}
		tree, err := openTree(file, volume{data: data, format: kind}, mount)
		if err != nil {
			continue
		}
		err = CheckReserved(tree)
		if !errors.Is(err, ErrReserved) {
			err = CheckReserved(usrFS{tree})
		}
		if err = errors.Join(err, tree.Close()); errors.Is(err, ErrReserved) {
			return err
		}
	}
	return nil
}

func isFileSystem(f format) bool {
	switch f {
	case formatErofs, formatSquash, formatExt, formatXFS, formatBtrfs, formatF2FS:
		return true
	}
	return false
}

// CheckOthers returns an error, of kind Precondition, that names an extension of either
// class below root with a file that is reserved for Trident, or with the name of Trident.
func CheckOthers(root string) error {
	c := checker{root: inroot.FS(root)}
	for _, class := range []Class{Sysext, Confext} {
		found, err := class.scan(root)
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := c.checkReserved(f, kernelMount); err != nil {
				return err
			}
		}
	}
	return nil
}
