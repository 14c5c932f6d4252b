package extension

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension/content"
	"github.com/trident-project/trident/internal/extension/volume"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// This file reads the images that the Store fetches, and is strict. check.go reads the
// extensions of others, and accepts what it cannot read.

// inspection is the result of inspect.
type inspection struct {
	release Release
	text    []byte // of the extension-release
	lax     bool   // systemd ignores the name of the extension-release
	facts   Facts
}

// Facts are notes about an image for people. Nothing depends on them: systemd's own policy
// decides about signatures.
type Facts struct {
	FileSystem string // erofs, squashfs, …
	RootHash   string // of the verity tree, hexadecimal; "" without one, or in a layout not read here
	Signed     bool   // there is a signature partition
}

// inspect reads an image without merging it. It fails with the first reason for which
// systemd would refuse the image, or take it for another extension.
func inspect(ctx context.Context, file verified, class Class, host hostinfo.Host, mount volume.Mounter) (inspection, error) {
	info, err := file.Stat()
	if err != nil {
		return inspection{}, err
	}
	v, err := volume.FindOnly(file, info.Size(), host.Architecture)
	if err != nil {
		return inspection{}, err
	}
	if v.IsUsr && class == Confext {
		return inspection{}, errkind.Errorf(errkind.Corrupt, "the image has a partition for usr alone, so it cannot be a confext")
	}
	facts := Facts{FileSystem: string(v.Format), Signed: v.Signature != nil}
	if whole, err := ddi.Open(file.whole, info.Size()); err == nil {
		if !file.isIntact {
			if err := whole.VerifyTree(ctx, nil); err != nil {
				return inspection{}, err
			}
		}
		facts.RootHash = ddi.HashString(whole.RootHash())
	}
	tree, err := v.Open(file.File, mount)
	if err != nil {
		return inspection{}, err
	}
	found, err := inspectTree(tree, class, host)
	found.facts = facts
	if err = errors.Join(err, tree.Close()); err != nil || found.isOwn() {
		return found, err
	}
	if err := reservedInImage(file.File, mount); err != nil { // also in the partitions other than v.Data
		return inspection{}, fmt.Errorf("check content of image: %w", err)
	}
	return found, nil
}

// isOwn reports whether the image claims to be Trident itself. Package trust verifies the
// claim.
func (i inspection) isOwn() bool {
	return i.release.Class == Sysext && (i.release.SysextID == Own || i.release.Name == Own)
}

func inspectTree(tree fs.FS, class Class, host hostinfo.Host) (inspection, error) {
	found, err := readOnlyRelease(tree, class)
	if err != nil {
		return inspection{}, err
	}
	if _, err := fs.Lstat(tree, osRelease); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return inspection{}, err
		}
		return inspection{}, errkind.Errorf(errkind.Forbidden, "the image contains %s: systemd merges no extension that does", osRelease)
	}
	r := found.release
	if !found.isOwn() {
		if err := content.CheckReserved(tree); err != nil {
			return inspection{}, fmt.Errorf("check content of image: %w", err)
		}
	}
	switch {
	case !validName(r.Name) || strings.HasSuffix(r.Name, class.suffix()):
		return inspection{}, errkind.Errorf(errkind.Corrupt, "the image's %s: %q cannot be the name of an extension", class.releaseFile(r.Name), r.Name)
	case r.SysextID == "":
		return inspection{}, errkind.WithHint(
			errkind.Errorf(errkind.Corrupt, "the image's %s has no %sID", class.releaseFile(r.Name), class.facts().fields),
			"Build the image with a %sID in its extension-release: by it Trident knows a newer version of the same extension.", class.facts().fields)
	}
	if err := r.Fits(host); err != nil || class == Confext {
		return found, err
	}
	return found, content.CheckPrograms(tree, host.Architecture)
}

// readOnlyRelease reads the extension-release. It fails unless the image has exactly one.
func readOnlyRelease(tree fs.FS, class Class) (inspection, error) {
	found, err := releaseFiles(tree, class)
	switch {
	case err != nil:
		return inspection{}, err
	case len(found) == 0:
		if others, err := releaseFiles(tree, class.other()); err == nil && len(others) > 0 {
			return inspection{}, errkind.Errorf(errkind.Corrupt, "the image is a %s, not a %s: its extension-release is in %s", class.other(), class, class.other().facts().releaseDir)
		}
		return inspection{}, errkind.Errorf(errkind.Corrupt, "the image has no %s", class.releaseFile("NAME"))
	case len(found) > 1:
		return inspection{}, errkind.Errorf(errkind.Corrupt, "the image has %d files in %s (%s, %s, …), and must have one", len(found), class.facts().releaseDir, found[0].Name(), found[1].Name())
	case !found[0].Type().IsRegular():
		return inspection{}, errkind.Errorf(errkind.Corrupt, "the image's %s is not a regular file", found[0].Name())
	}
	name := strings.TrimPrefix(found[0].Name(), releasePrefix)
	text, strict, err := readRelease(tree, class.releaseFile(name))
	if err != nil {
		return inspection{}, fmt.Errorf("read the image's %s: %w", found[0].Name(), err)
	}
	vars, err := hostinfo.ParseEnv(bytes.NewReader(text))
	if err != nil {
		return inspection{}, errkind.Errorf(errkind.Corrupt, "read the image's %s: %w", found[0].Name(), err)
	}
	return inspection{release: releaseOf(class, name, vars), text: text, lax: isLax(found[0]) || isFalse(strict)}, nil
}

// releaseFiles returns the files with the name of an extension-release. It fails if a
// folder of their path is a link.
func releaseFiles(tree fs.FS, class Class) ([]fs.DirEntry, error) {
	dir := class.facts().releaseDir
	for i, c := range dir + "/" {
		if c != '/' {
			continue
		}
		info, err := fs.Lstat(tree, dir[:i])
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return nil, errkind.Errorf(errkind.Corrupt, "the image's %s is not a folder", dir[:i])
		}
	}
	entries, err := readSome(tree, dir)
	if err != nil {
		return nil, fmt.Errorf("read the image's %s: %w", dir, err)
	}
	var found []fs.DirEntry
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), releasePrefix) {
			found = append(found, e)
		}
	}
	return found, nil
}

// maxRelease bounds an extension-release.
const maxRelease = 64 << 10

// readRelease returns the text of an extension-release and, if tree is a mount, the value
// of strictAttr. For an erofs that is not mounted see isLax.
func readRelease(tree fs.FS, name string) (text []byte, strict string, err error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if file, ok := f.(*os.File); ok {
		value := make([]byte, 16)
		if n, err := unix.Fgetxattr(int(file.Fd()), strictAttr, value); err == nil {
			strict = string(value[:n])
		}
	}
	text, err = io.ReadAll(io.LimitReader(f, maxRelease+1))
	return text, strict, err
}

// target returns the path at which systemd finds the image under a name that its
// extension-release allows. given is the path of the Host Configuration, or "".
func (i inspection) target(class Class, given string) (string, error) {
	if given == "" {
		return "/" + path.Join(class.facts().allowed[0], i.release.Name+".raw"), nil
	}
	if err := checkPath(class, given); err != nil {
		return "", err
	}
	if name := nameOf(given); !i.isCalled(name) && unversioned(name) != i.release.Name {
		err := errkind.Errorf(errkind.Invalid, "the image has to be called %s.raw, after its %s, and not %s",
			i.release.Name, class.releaseFile(i.release.Name), path.Base(given))
		return "", errkind.WithHint(err, "Leave the path out, or end it in %[1]s.raw, or with a version in %[1]s_VERSION.raw.", i.release.Name)
	}
	return given, nil
}

// isCalled reports whether every version of systemd accepts the image under a name.
func (i inspection) isCalled(name string) bool { return i.lax || name == i.release.Name }

// unversioned returns the part of an image's name that its extension-release must have:
// systemd from 255 on ignores a version, which begins with "_" or "+".
func unversioned(name string) string {
	if i := strings.IndexAny(name, "_+"); i >= 0 {
		return name[:i]
	}
	return name
}

// nameOf returns the name of the extension in a file.
func nameOf(file string) string { return strings.TrimSuffix(path.Base(file), ".raw") }

// checkPath fails, with errkind.Invalid, for a path that a Host Configuration must not have.
func checkPath(class Class, file string) error {
	facts := class.facts()
	name, raw := strings.CutSuffix(path.Base(file), ".raw")
	switch {
	case !path.IsAbs(file) || path.Clean(file) != file || !raw:
		return errkind.Errorf(errkind.Invalid, "the path %.200q of a %s must be absolute and end in .raw", file, class)
	case !validName(name) || strings.HasPrefix(name, ".") || strings.HasSuffix(name, class.suffix()):
		return errkind.Errorf(errkind.Invalid, "the path %.200q of a %s: %.200q cannot be the name of an extension", file, class, name)
	}
	for _, dir := range facts.allowed {
		if path.Dir(file) == "/"+dir {
			return nil
		}
	}
	return errkind.Errorf(errkind.Invalid, "the path %.200q of a %s is not in one of the folders /%s", file, class, strings.Join(facts.allowed, ", /"))
}
