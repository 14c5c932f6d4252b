package files

import (
	"context"
	"errors"
	"path"

	"github.com/trident-project/trident/internal/errkind"
)

// Bounds of a count.
const (
	maxCounted = 2_000_000 // files
	maxShared  = 500_000   // files with several names
	maxFolders = 1000      // of the result
	maxReport  = 3         // levels of the result
)

// FolderUsage is what the files below a folder use.
type FolderUsage struct {
	Path  string
	Used  int64 // bytes on the disk
	Files int64 // that are not folders
}

// Usage counts the bytes that the files below a folder use on its file system, and reports
// the folder and those below it to a depth of levels, sorted by path. isIncomplete says that not
// all was counted.
func (s *Service) Usage(ctx context.Context, name string, levels int) (folders []FolderUsage, isIncomplete bool, err error) {
	if levels < 0 || levels > maxReport {
		return nil, false, errkind.Errorf(errkind.Invalid, "depth is %d, it must be from 0 to %d", levels, maxReport)
	}
	n, v, err := s.find(name, false)
	if err != nil {
		return nil, false, err
	}
	defer n.close()
	base := depthOf(n.path)
	c := &counter{shared: map[uint64]bool{}, byPath: map[string]int{n.path: 0}, folders: []FolderUsage{{Path: n.path}}}
	c.count(n.path, n)
	if !n.isFolder() {
		return c.folders, false, nil
	}
	counted := 0
	err = v.walk(ctx, n, 0, func(child *node, full string, err error) (bool, error) {
		switch counted++; {
		case child == nil:
			c.isIncomplete = c.isIncomplete || errkind.Of(err) != errkind.NotFound // it has vanished
			return false, nil
		case counted > maxCounted:
			c.isIncomplete = true
			return false, errEnough
		case child.st.Dev != n.st.Dev:
			return false, nil
		}
		if child.isFolder() && depthOf(full)-base <= levels {
			if len(c.folders) < maxFolders {
				c.byPath[full] = len(c.folders)
				c.folders = append(c.folders, FolderUsage{Path: full})
			} else {
				c.isIncomplete = true
			}
		}
		c.count(full, child)
		return true, nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, false, err
	}
	return c.folders, c.isIncomplete, nil
}

type counter struct {
	shared       map[uint64]bool // inodes of files with several names
	byPath       map[string]int  // the places in folders
	folders      []FolderUsage
	isIncomplete bool
}

// count adds a file to the folders that have it.
func (c *counter) count(full string, n *node) {
	if !n.isFolder() && n.st.Nlink > 1 {
		if c.shared[n.st.Ino] {
			return
		}
		if len(c.shared) < maxShared {
			c.shared[n.st.Ino] = true
		}
	}
	for at := full; ; at = path.Dir(at) {
		if i, ok := c.byPath[at]; ok {
			c.folders[i].Used += n.st.Blocks * 512
			if !n.isFolder() {
				c.folders[i].Files++
			}
		}
		if at == c.folders[0].Path || at == "/" {
			return
		}
	}
}
