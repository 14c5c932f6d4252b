package content

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/unmerged"
)

// CompareFolders compares the folders of an image with those of the host at root without
// extensions, because a merged folder has the mode and the owner of the extension's, and
// a folder in the place of a link hides the target of the link. tops are the folders over
// which systemd merges the image. CompareFolders fails, with errkind.Forbidden, and names
// the folders that differ.
func CompareFolders(image fs.FS, root string, tops ...string) (err error) {
	host, err := unmerged.Open(root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	c := comparison{image: image, host: inroot.FS(host.Path())}
	if c.root, err = c.host.Stat("."); err != nil {
		return err
	}
	for _, top := range tops {
		if err := c.folder(top, 0); err != nil {
			return fmt.Errorf("compare folders with those of the host: %w", err)
		}
	}
	if len(c.faults) == 0 {
		return nil
	}
	return errkind.WithHint(errkind.Errorf(errkind.Forbidden, "a merged folder would take the mode and the owner that it has in the image: %s", strings.Join(c.faults, ", ")),
		"Build the image again, with modes and owners as on the host.")
}

type comparison struct {
	image  fs.FS
	host   inroot.FS
	root   fs.FileInfo // the root folder of the host, whose owner counts as root
	faults []string
}

// maxFaults bounds how many folders an error names.
const maxFaults = 8

// folder compares a folder and those below it. It ignores folders that the host does not
// have.
func (c *comparison) folder(name string, depth int) error {
	theirs, err := c.host.Lstat(name)
	if err != nil || len(c.faults) == maxFaults {
		return nil
	}
	ours, err := fs.Lstat(c.image, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	switch {
	case err != nil:
		return err
	case !ours.IsDir():
		return nil
	case theirs.Mode()&fs.ModeSymlink != 0:
		return errkind.Errorf(errkind.Forbidden, "the image has a folder /%s, where the host has a link: the merged folder would hide the target of the link", name)
	case !theirs.IsDir():
		return nil
	case depth > maxDepth:
		return errkind.Errorf(errkind.Forbidden, "%s: more than %d folders deep", name, maxDepth)
	}
	if c.accessOf(ours) != c.accessOf(theirs) {
		c.faults = append(c.faults, fmt.Sprintf("/%s (%s, on the host %s)", name, show(ours), show(theirs)))
	}
	f, err := c.image.Open(name)
	if err != nil {
		return err
	}
	return eachEntry(f, name, func(e fs.DirEntry) error {
		if !e.IsDir() {
			return nil
		}
		return c.folder(path.Join(name, e.Name()), depth+1)
	})
}

// access is the permissions of a folder. It omits those of root as the owner, who may do
// everything.
type access struct {
	uid, gid uint32
	mode     fs.FileMode
}

func (c *comparison) accessOf(info fs.FileInfo) access {
	uid, gid := owner(info)
	if rootUID, rootGID := owner(c.root); uid == rootUID && gid == rootGID {
		uid, gid = 0, 0 // a test's tree belongs to the user who runs the test
	}
	mode := info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	if uid == 0 {
		mode &^= 0o700
	}
	return access{uid, gid, mode}
}

func show(info fs.FileInfo) string {
	uid, gid := owner(info)
	return fmt.Sprintf("%s of %d:%d", info.Mode(), uid, gid)
}
