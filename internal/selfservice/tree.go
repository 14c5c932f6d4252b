package selfservice

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/rescue"
)

// LinkInTree makes the OS in the tree at root, which does not run and shares the store
// with this host, run the newer of its own Trident and the extension that is active
// here. It returns the version of that extension, or "" where it is dropped.
// systemd-sysext.service is the caller's to enable there.
func (s *Service) LinkInTree(root string) (version string, err error) {
	active, link, err := rescue.LinkedVersion(s.Root)
	if err != nil {
		return "", fmt.Errorf("carry trident across: %w", err)
	}
	base, err := baseIn(root)
	if err != nil {
		return "", fmt.Errorf("carry trident across: %w", err)
	}
	if active == "" || base != "" && compare(base, active) >= 0 {
		active, link = "", ""
	}
	if err := s.touch("carry trident", func() error { return setLinkIn(root, link) }); err != nil {
		return "", fmt.Errorf("carry trident across: %w", err)
	}
	return active, nil
}

// baseIn is rescue.BaseVersion for a tree whose links may lead out of it.
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

// setLinkIn makes the link by which systemd finds our extension in a tree say target, or
// removes it where that is "". No link of the tree leads out of it.
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

// makeFolder makes a folder of the host, and those above, that everybody can enter,
// whatever the umask.
func (s *Service) makeFolder(name string) error {
	d, err := inroot.FS(s.Root).MakeDir(name, 0o755)
	if err != nil {
		return err
	}
	return d.Close()
}
