package slots

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/storage"
)

// checkTree checks the root file system of a local image, if this host has room to unpack it
// and a kernel that can mount it: the places of files must not be dangling links, and an
// SELinux policy needs setfiles. It skips what a script of the configuration may put right
// before. It deletes what it unpacks.
func (s *Service) checkTree(ctx context.Context, r *opRun, e *examined) (err error) {
	i := slices.IndexFunc(r.State.Parts, func(p part) bool { return p.Name == "/" && !p.ESP })
	if i < 0 || !e.image.Local() || s.Machine.Tree == nil || len(hooks.Of(e.config.Spec().Scripts.PostProvision, r.State.Purpose.on())) > 0 {
		return nil
	}
	from, err := r.State.Parts[i].in(e.image)
	if err != nil {
		return err
	}
	if !s.hasRoomFor(from.File.Size) {
		return nil
	}
	f, err := os.CreateTemp(s.StagedDir(), "root-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := os.Remove(f.Name()); err != nil { // the kernel deletes it when the descriptor closes
		return err
	}
	if _, err := from.UnpackSparse(ctx, f); err != nil {
		if errkind.Of(err) == errkind.NoSpace {
			return nil
		}
		return errkind.WithName(fmt.Errorf("read the image: %w", err), errkind.NameCorruptOsImage)
	}
	e.read[from.File.Path] = true
	root, done, err := s.Machine.Tree(f, r.State.Parts[i].Type)
	if errkind.Of(err) == errkind.Unsupported {
		return nil
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("the image's file system for /: %w", err), errkind.NameMountNewroot)
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := s.checkPlaces(root, e); err != nil || len(hooks.Of(e.config.Spec().Scripts.PostConfigure, r.State.Purpose.on())) > 0 {
		return err
	}
	return s.checkPolicy(r, root, e)
}

// hasRoomFor reports whether size more bytes in StagedDir leave half of the free room there,
// and half of the free memory if that folder may be in memory.
func (s *Service) hasRoomFor(size int64) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(s.StagedDir(), &st); err != nil {
		return false
	}
	room := int64(st.Bavail) * st.Bsize
	if available, known := s.Machine.memory(); known && !slices.Contains([]int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC}, st.Type) {
		room = min(room, available)
	}
	return size <= room/2
}

// checkPlaces checks the places in a tree of the files that Trident will write.
func (s *Service) checkPlaces(root string, e *examined) error {
	names := []string{"/etc/fstab", "/etc/machine-id"}
	for _, f := range e.config.Spec().OS.AdditionalFiles {
		names = append(names, change.Absolute(f.Destination))
	}
	elsewhere := func(name string) bool { // on another file system of the new OS
		for _, f := range storage.MountOrder(&e.config.Spec().Storage) {
			if at := path.Clean(f.MountPoint.Path); at != "/" && (name == at || strings.HasPrefix(name, at+"/")) {
				return true
			}
		}
		return false
	}
	for _, name := range names {
		if elsewhere(name) {
			continue
		}
		err := osconfig.Check(root, name)
		if dangling, ok := errors.AsType[*inroot.DanglingError](err); ok {
			link := strings.TrimPrefix(dangling.Link, root)
			if target, lerr := os.Readlink(filepath.Join(root, link)); lerr == nil {
				if !path.IsAbs(target) {
					target = path.Join(path.Dir(change.Absolute(link)), target)
				}
				if elsewhere(path.Clean(target)) {
					continue
				}
			}
			err = errkind.Errorf(errkind.Precondition, "write %s: %s is a link to nowhere", name, change.Absolute(link))
		}
		if err != nil && !errors.Is(err, unix.EROFS) { // the tree is mounted read-only
			return errkind.WithName(fmt.Errorf("in the image: %w", err), errkind.NameWriteAdditionalFile)
		}
	}
	return nil
}

// checkPolicy fails if "labels" would fail.
func (s *Service) checkPolicy(r *opRun, root string, e *examined) error {
	policy, err := osconfig.PolicyOf(root)
	if err != nil || policy == nil {
		return err
	}
	mode := policy.Mode
	if want := e.config.Spec().OS.SELinux.Mode; want != "" { // "configure" sets it
		mode = want
	}
	if err := s.besideExtensions(r, e.config, mode); err != nil {
		return err
	}
	if mode != hostconfig.SELinuxEnforcing {
		return nil
	}
	tool, err := labelTool(root)
	configured := slices.ContainsFunc(e.config.Spec().OS.AdditionalFiles, func(f hostconfig.AdditionalFile) bool {
		return slices.Contains(labelTools, change.Absolute(f.Destination))
	})
	if err == nil && tool == "" && !configured {
		err = noSetfiles()
	}
	return err
}
