package files

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Bounds of a walk.
const (
	maxListed = 100_000 // files of a list or of an archive
	maxDepth  = 64      // folders below each other
	maxLevels = 16      // of a list
	batch     = 256     // files that List sends at a time
)

// A visit is called for each file of a walk. A file that could not be examined has no node but
// an error. The walk enters a folder if the visit returns true, and closes the node.
type visit func(n *node, name string, err error) (enter bool, fault error)

// errEnough ends a walk without a fault.
var errEnough = errors.New("enough files")

// walk visits the entries of a folder, and of those that visit enters, sorted by name. Links
// are not followed.
func (v *vault) walk(ctx context.Context, folder *node, depth int, visit visit) error {
	if depth > maxDepth {
		_, err := visit(nil, folder.path, errkind.Errorf(errkind.TooLarge, "%s is more than %d folders deep", folder.path, maxDepth))
		return err
	}
	names, err := folder.names()
	if err != nil {
		_, err = visit(nil, folder.path, err)
		return err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := v.step(ctx, folder, name, depth, visit); err != nil {
			return err
		}
	}
	return nil
}

func (v *vault) step(ctx context.Context, folder *node, name string, depth int, visit visit) error {
	full := path.Join(folder.path, name)
	fd, err := openAt(folder.fd, name, unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	var n *node
	if err == nil {
		n, err = v.examine(fd, full)
	} else {
		err = explain(full, folder.path, err)
	}
	if err != nil {
		_, err = visit(nil, full, err)
		return err
	}
	defer n.close()
	enter, err := visit(n, full, nil)
	if err != nil || !enter || !n.isFolder() {
		return err
	}
	return v.walk(ctx, n, depth+1, visit)
}

// names returns the names in a folder, sorted. It fails for more than maxListed.
func (n *node) names() ([]string, error) {
	fd, err := openat2(n.fd, ".", &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH})
	if err != nil {
		return nil, explain(n.path, n.path, err)
	}
	dir := os.NewFile(uintptr(fd), n.path)
	defer dir.Close()
	names, err := dir.Readdirnames(maxListed + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxListed {
		return nil, errkind.Errorf(errkind.TooLarge, "%s has more than %d entries", n.path, maxListed)
	}
	slices.Sort(names)
	return names, nil
}

// List gives a file, or the entries of a folder to a depth of levels (0 is 1), to send, at most
// 256 at a time. Files that vanish have an error. isTruncated says that there
// are more than 100000 files.
func (s *Service) List(ctx context.Context, name string, levels int, send func([]Info) error) (isTruncated bool, err error) {
	if levels < 0 || levels > maxLevels {
		return false, errkind.Errorf(errkind.Invalid, "depth is %d, it must be from 0 to %d", levels, maxLevels)
	}
	n, v, err := s.find(name, false)
	if err != nil {
		return false, err
	}
	defer n.close()
	if !n.isFolder() {
		return false, send([]Info{n.info()})
	}
	if n.lock != nil {
		return false, n.lock
	}
	var found []Info
	count, base := 0, depthOf(n.path)
	err = v.walk(ctx, n, 0, func(child *node, full string, err error) (bool, error) {
		if count++; count > maxListed {
			return false, errEnough
		}
		one := Info{Path: full, Err: err}
		if child != nil {
			one = child.info()
		} else if full == n.path {
			return false, err // the folder itself
		}
		if found = append(found, one); len(found) == batch {
			if err := send(found); err != nil {
				return false, err
			}
			found = nil
		}
		return depthOf(full)-base < max(levels, 1) && child != nil && child.lock == nil, nil
	})
	if isTruncated = errors.Is(err, errEnough); isTruncated {
		err = nil
	}
	if err == nil && len(found) > 0 {
		err = send(found)
	}
	return isTruncated, err
}

// depthOf returns the number of parts of a clean absolute path.
func depthOf(name string) (parts int) {
	for i := range name {
		if name[i] == '/' && len(name) > 1 {
			parts++
		}
	}
	return parts
}
