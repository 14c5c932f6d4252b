// Package content says which files the tree of an image may contain: plain files of root,
// with the modes and owners that the folders of the host have, for the architecture of the
// image, and none in the place of a file of Trident.
package content

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	maxFiles = 4096
	maxDepth = 32
)

// Check walks the tree of an image and fails at the first file that an image must
// not have, usually with errkind.Forbidden: a path that allow refuses (it gets all but the
// root), a link that is absolute or leaves usr/, a file that is not a folder, a regular
// file or a link, a file that does not belong to root, and a file with a set-ID bit, a file
// capability, write permission for everybody, or an attribute by which overlayfs would
// hide files of the host. It has at most 256 names of each open folder in memory.
func Check(fsys fs.FS, allow func(path string) bool) error {
	c := contentCheck{fsys: fsys, allow: allow}
	if err := c.dir(".", 0); err != nil {
		return fmt.Errorf("check content of image: %w", err)
	}
	return nil
}

type contentCheck struct {
	fsys  fs.FS
	allow func(string) bool
	files int
}

func (c *contentCheck) dir(name string, depth int) error {
	if depth > maxDepth {
		return errkind.Errorf(errkind.Forbidden, "%s: more than %d folders deep", name, maxDepth)
	}
	f, err := c.fsys.Open(name)
	if err != nil {
		return err
	}
	return eachEntry(f, name, func(e fs.DirEntry) error { return c.entry(path.Join(name, e.Name()), e, depth) })
}

// eachEntry calls visit for each entry of the open folder dir, until visit fails, and closes
// dir. It has at most 256 entries in memory.
func eachEntry(dir fs.File, name string, visit func(fs.DirEntry) error) error {
	defer dir.Close()
	d, ok := dir.(fs.ReadDirFile)
	if !ok {
		return errkind.Errorf(errkind.Corrupt, "%s is not a folder", name)
	}
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if err := visit(e); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || err == nil && len(entries) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

func (c *contentCheck) entry(name string, e fs.DirEntry, depth int) error {
	if c.files++; c.files > maxFiles {
		return errkind.Errorf(errkind.Forbidden, "more than %d files", maxFiles)
	}
	if !fs.ValidPath(name) || strings.ContainsRune(e.Name(), '/') {
		return errkind.Errorf(errkind.Corrupt, "%q is not a file name", e.Name())
	}
	if name == lostFound {
		return c.lostFound(e)
	}
	if !c.allow(name) {
		return errkind.Errorf(errkind.Forbidden, "%q is not among the paths that this image may have", name)
	}
	info, err := e.Info()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if fault := forbiddenMode(info.Mode()); fault != "" {
		return errkind.Errorf(errkind.Forbidden, "%q %s", name, fault)
	}
	if m := info.Mode(); m.IsDir() && m&0o001 == 0 {
		return errkind.WithHint(errkind.Errorf(errkind.Forbidden, "%q cannot be entered by others (mode %04o): once merged, neither could the host's folder", name, m.Perm()),
			"Correct the tree that the image is built from: chmod -R go+rX")
	}
	if uid, gid := owner(info); uid != 0 || gid != 0 {
		return errkind.Errorf(errkind.Forbidden, "%q belongs to user ID %d and group ID %d, not to root", name, uid, gid)
	}
	attr, err := c.forbiddenAttr(name, info)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if attr != "" {
		return errkind.Errorf(errkind.Forbidden, "%q has the extended attribute %s", name, attr)
	}
	switch {
	case info.IsDir():
		return c.dir(name, depth+1)
	case info.Mode()&fs.ModeSymlink != 0:
		return c.link(name)
	}
	return nil
}

func forbiddenMode(m fs.FileMode) string {
	switch {
	case m.Type()&^(fs.ModeDir|fs.ModeSymlink) != 0:
		return "is neither folder, file nor link (" + m.Type().String() + ")"
	case m&fs.ModeSetuid != 0:
		return "has the set-user-ID bit"
	case m&fs.ModeSetgid != 0:
		return "has the set-group-ID bit"
	case m&fs.ModeSymlink == 0 && m&0o002 != 0:
		return "may be written by everybody"
	}
	return ""
}

// owner returns the owner of a file, or root if the file system does not report owners.
func owner(info fs.FileInfo) (uid, gid uint32) {
	switch x := info.Sys().(type) {
	case *syscall.Stat_t:
		return x.Uid, x.Gid
	default:
		if o, ok := info.(interface {
			UID() uint32
			GID() uint32
		}); ok {
			return o.UID(), o.GID()
		}
	}
	return 0, 0
}

// lostFound is a folder that mkfs.ext4 makes in each file system. systemd does not merge it.
const lostFound = "lost+found"

func (c *contentCheck) lostFound(e fs.DirEntry) error {
	if !e.IsDir() {
		return errkind.Errorf(errkind.Forbidden, "%q is not a folder", lostFound)
	}
	f, err := c.fsys.Open(lostFound)
	if err != nil {
		return err
	}
	return eachEntry(f, lostFound, func(e fs.DirEntry) error {
		return errkind.Errorf(errkind.Forbidden, "the folder %q is not empty: it has %q", lostFound, e.Name())
	})
}

func (c *contentCheck) link(name string) error {
	target, err := fs.ReadLink(c.fsys, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if target == os.DevNull { // a masked unit
		return nil
	}
	to := path.Join(path.Dir(name), target)
	top, _, _ := strings.Cut(to, "/")
	if path.IsAbs(target) || top != "usr" && !(top == "opt" && c.allow(top)) {
		return errkind.Errorf(errkind.Forbidden, "the link %q leads out of usr/, to %q", name, target)
	}
	return nil
}
