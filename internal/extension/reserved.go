package extension

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension/content"
	"github.com/trident-project/trident/internal/extension/volume"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// OwnPath is the path of the extension that is Trident itself. Only package selfservice
// writes it, after package trust has verified the image.
const OwnPath = "/var/lib/extensions/" + Own + ".raw"

// checkReserved is content.CheckReserved for a found extension of others. It ignores parts that it
// cannot read.
func (c checker) checkReserved(f discovered, mount volume.Mounter) error {
	if f.Class == Sysext && f.Path == OwnPath && f.Kind == formRaw {
		return nil
	}
	hint := fmt.Sprintf("Remove %s, or ask its vendor for one without that file.", f.Path)
	if f.Class == Sysext && f.Name == Own {
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "extension %s (%s) hides Trident's own (%s) or is taken for it", f.Name, f.Path, OwnPath),
			"Remove %s, or give it another name.", f.Path)
	}
	err := c.reservedIn(f, mount)
	if !errors.Is(err, content.ErrReserved) {
		return nil
	}
	return errkind.WithHint(errkind.Errorf(errkind.Precondition, "extension %s (%s) interferes with Trident: %w", f.Name, f.Path, err), "%s", hint)
}

func (c checker) reservedIn(f discovered, mount volume.Mounter) error {
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
	case formDirectory:
		return reservedInFolder(file)
	case formRaw:
		return reservedInImage(file, mount)
	case formVersioned:
		names, err := c.root.List(strings.TrimPrefix(f.Path, "/"))
		if err != nil {
			return err
		}
		for _, name := range names {
			if entry, ok := c.entryOf(f, name); ok {
				if err := c.reservedIn(entry, mount); errors.Is(err, content.ErrReserved) {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
	}
	return nil
}

// entryOf returns the entry name of the folder of versions f; false if systemd ignores it.
func (c checker) entryOf(f discovered, name string) (discovered, bool) {
	entry := discovered{Class: f.Class, Name: f.Name, Path: path.Join(f.Path, name), Kind: formDirectory}
	info, err := c.root.Stat(strings.TrimPrefix(entry.Path, "/"))
	if err != nil {
		return entry, false
	}
	if info.Mode().IsRegular() {
		entry.Kind = formRaw
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
	return content.CheckReserved(root.FS())
}

// reservedInImage checks every file system of an image, as the tree of the root and as
// that of /usr: which of them systemd mounts, and where, depends on the others, on the
// host and on systemd's version. It skips a file system that it cannot read.
func reservedInImage(file *os.File, mount volume.Mounter) error {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	for _, v := range volume.All(file, info.Size()) {
		tree, err := v.Open(file, mount)
		if err != nil {
			continue
		}
		err = content.CheckReserved(tree)
		if !errors.Is(err, content.ErrReserved) {
			err = content.CheckReserved(volume.UsrFS{FS: tree})
		}
		if err = errors.Join(err, tree.Close()); errors.Is(err, content.ErrReserved) {
			return err
		}
	}
	return nil
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
			if err := c.checkReserved(f, volume.KernelMount); err != nil {
				return err
			}
		}
	}
	return nil
}
