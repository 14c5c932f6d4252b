package selfservice

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/selfservice/images"
)

// LinkInTree makes the OS in the tree at root, which does not run and shares the
// store with this host, run the newer of two versions: the Trident in its /usr, or
// the extension that is active on this host. It repoints or removes the extension
// link in the tree. It returns the version of the linked extension, or "" if it
// removed the link. The caller enables systemd-sysext.service in the tree.
func (s *Service) LinkInTree(root string) (version string, err error) {
	active, link, err := rescue.LinkedVersion(s.Root)
	base, baseErr := baseIn(root)
	if err = errors.Join(err, baseErr); err == nil {
		if active == "" || base != "" && images.Compare(base, active) >= 0 {
			active, link = "", ""
		}
		err = s.touch("carry trident", func() error { return setLinkIn(root, link) })
	}
	if err != nil {
		return "", fmt.Errorf("link the extension of trident in the new system: %w", err)
	}
	return active, nil
}

// baseIn is rescue.BaseVersion for a tree whose symbolic links may point out of
// the tree.
func baseIn(root string) (string, error) {
	data, err := inroot.FS(root).ReadFile(rescue.Base, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read base version: %w", err)
	}
	return rescue.ParseBase(data)
}

// setLinkIn points the extension link of a tree to target, or removes the link if
// target is "". It follows no symbolic link out of the tree.
func setLinkIn(root, target string) (err error) {
	at := inroot.FS(root)
	dir, name := filepath.Split(rescue.Link)
	var d *inroot.Dir
	if target == "" {
		d, err = at.Dir(dir)
		if _, dangling := errors.AsType[*inroot.DanglingError](err); dangling || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	} else {
		d, err = at.MakeDir(dir, 0o755)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if target == "" {
		return d.Remove(name)
	}
	return errors.Join(d.Sweep(name), d.Symlink(target, name, -1, -1))
}
