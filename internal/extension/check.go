package extension

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension/volume"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// CheckMergeable returns an error, of kind Precondition, that names a sysext below root, other
// than Trident's own, that would make systemd fail, and then merge no extension at all. It
// accepts an extension that systemd merges or ignores, and one that this package cannot read:
// a block device, a file system other than erofs, a layout of partitions that is not a plain
// discoverable image.
//
// CheckMergeable reads metadata only. It does not know the keys that the kernel trusts, so it
// accepts a signature by another key than those in verity.d if the same file is merged
// already. systemd 259 and later merges an image with an unknown signature, unless its policy
// forbids that.
func CheckMergeable(root string) error {
	found, err := search(root)
	found = slices.DeleteFunc(found, func(f discovered) bool { return f.Name == Own })
	if err != nil || len(found) == 0 {
		return err
	}
	host, err := hostinfo.Read(root)
	if err != nil {
		return err
	}
	certs, err := verityCerts(root)
	if err != nil {
		return err
	}
	c := checker{inroot.FS(root), host, certs, false}
	for _, f := range found {
		if err := c.verdict(f); err != nil {
			return errkind.WithHint(err, "repair or remove %s; nothing was changed", f.Path)
		}
	}
	return nil
}

func (c checker) verdict(f discovered) error {
	err := c.check(f)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errkind.WithHint(
		errkind.Errorf(errkind.Precondition, "extension %s (%s) keeps %s from merging any: it %w", f.Name, f.Path, f.Class.tool(), err),
		"Repair or remove %s.", f.Path)
}

type checker struct {
	root  inroot.FS
	host  hostinfo.Host
	certs []*x509.Certificate
	// anySignature accepts every signature, as systemd 259 and later does.
	anySignature bool
}

func (c checker) check(f discovered) error {
	switch f.Kind {
	case formDirectory:
		return c.directory(f)
	case formRaw:
		return c.raw(f)
	case formVersioned:
		return c.versioned(f)
	}
	return nil
}

// directory finds the only fault of a folder, an os-release: systemd ignores a folder
// without an extension-release.
func (c checker) directory(f discovered) error {
	dir, err := c.root.Open(strings.TrimPrefix(f.Path, "/"))
	if err != nil {
		return fmt.Errorf("cannot be opened: %w", err)
	}
	defer dir.Close()
	file, ok := dir.(*os.File)
	if !ok {
		return nil
	}
	// systemd follows links in the folder as if the folder were the root.
	if _, err := inroot.FS(fmt.Sprintf("/proc/self/fd/%d", file.Fd())).Stat(osRelease); err == nil {
		return errors.New("contains " + osRelease)
	}
	return nil
}

// osRelease is a file with which systemd does not merge an extension. systemd 252 then
// merges no extension at all, and exits with status 0. systemd 257 fails for a folder with
// the file, and ignores such an image.
const osRelease = "usr/lib/os-release"

// versioned returns a fault if every entry of the folder has one. Which entry systemd
// picks depends on its version.
func (c checker) versioned(f discovered) error {
	names, err := c.root.List(strings.TrimPrefix(f.Path, "/"))
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	entry := discovered{Class: f.Class, Name: f.Name, Kind: formDirectory}
	if strings.HasSuffix(f.Path, ".raw.v") {
		entry.Kind = formRaw
	}
	var fault error
	for _, name := range names {
		if !strings.HasPrefix(name, f.Name+"_") || (entry.Kind == formRaw) != strings.HasSuffix(name, ".raw") {
			continue
		}
		entry.Path = path.Join(f.Path, name)
		err := c.check(entry)
		if err == nil {
			return nil
		}
		fault = fmt.Errorf("has only faulty versions; %s %w", name, err)
	}
	return fault
}

func (c checker) raw(f discovered) error {
	opened, err := c.root.Open(strings.TrimPrefix(f.Path, "/"))
	if err != nil {
		return fmt.Errorf("cannot be opened: %w", err)
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	file, ok := opened.(*os.File)
	if !ok || !info.Mode().IsRegular() {
		return nil
	}
	v, err := volume.Find(file, info.Size(), c.host.Architecture)
	if errors.Is(err, volume.ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	if v.Signature != nil && !c.anySignature {
		if err := checkSignature(v.Signature, c.certs); err != nil && !c.mergedAsItIs(f, info) {
			return err
		}
	}
	if v.Format != volume.Erofs {
		return nil
	}
	return checkTree(v, f.Class, f.Name)
}

// mergedAsItIs reports whether the extension is merged and its file has not changed since.
func (c checker) mergedAsItIs(f discovered, info fs.FileInfo) bool {
	names, err := f.Class.Merged(string(c.root))
	if err != nil || !slices.Contains(names, f.Name) {
		return false
	}
	return mergedSince(string(c.root), f.Class, info)
}

// mergedSince reports whether systemd has merged since the last change of a file or link.
func mergedSince(root string, class Class, info fs.FileInfo) bool {
	merge, err := inroot.FS(root).Stat(class.facts().merged)
	st, ok := info.Sys().(*syscall.Stat_t)
	return err == nil && ok && time.Unix(st.Ctim.Unix()).Before(merge.ModTime())
}
