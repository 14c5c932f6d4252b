package extension

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension/content"
	"github.com/trident-project/trident/internal/extension/volume"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/version"
)

// Own is the name and the SYSEXT_ID of the extension that is Trident itself.
const Own = content.Trident

// Files of an image of Trident.
const (
	OwnDaemon  = "usr/bin/tridentd"
	OwnRescuer = "usr/lib/trident/trident-rescue"
	OwnRelease = "usr/lib/extension-release.d/extension-release." + Own
)

// CheckImage makes the checks of a sysext that need no host, for the tools that build,
// sign and verify an image. fsys is the tree of img: see OpenTree. The image must have one extension-release that some host
// accepts, and its programs must be for the architecture of its partitions. CheckOwn must
// accept an image of Trident; package content must accept any other one.
func CheckImage(img *ddi.Image, fsys fs.FS) (Release, error) {
	found, err := releaseFiles(fsys, Sysext)
	if err != nil {
		return Release{}, err
	}
	if len(found) != 1 {
		err := errkind.Errorf(errkind.Corrupt, "it has %d extension-release files, not 1", len(found))
		return Release{}, errkind.WithHint(err, "An extension describes itself in usr/lib/extension-release.d/extension-release.NAME (os-release(5)): ID=_any, SYSEXT_ID=NAME, ARCHITECTURE=x86-64, SYSEXT_VERSION_ID=1.0.0")
	}
	r, err := ReadRelease(fsys, strings.TrimPrefix(found[0].Name(), releasePrefix))
	if err != nil {
		return Release{}, err
	}
	switch a := r.Architecture; {
	case a != "" && a != "_any" && a != string(img.Arch()):
		return r, errkind.Errorf(errkind.Corrupt, "extension-release is for the architecture %q, the partitions are for %q", a, img.Arch())
	case r.ID == "":
		return r, errkind.WithHint(errkind.Errorf(errkind.Incompatible, "extension-release.%s names no ID of a system, so no host accepts it", r.Name),
			"ID=_any fits every system.")
	case !slices.Contains(strings.Fields(r.Scope), "system"):
		return r, errkind.Errorf(errkind.Incompatible, "extension-release.%s is for the scope %q, so no running system accepts it", r.Name, r.Scope)
	case r.Name == Own:
		if err := CheckOwn(fsys, r); err != nil {
			return r, err
		}
		return r, content.CheckPrograms(fsys, string(img.Arch()))
	case r.SysextID == Own:
		return r, errkind.Errorf(errkind.Invalid, "its SYSEXT_ID is %q, so its extension-release must be called %s", Own, path.Base(OwnRelease))
	}
	err = content.Check(fsys, func(path string) bool {
		top, _, _ := strings.Cut(path, "/")
		return top == "usr" || top == "opt"
	})
	if err == nil {
		err = content.CheckReserved(fsys)
	}
	if err == nil {
		err = content.CheckPrograms(fsys, string(img.Arch()))
	}
	return r, err
}

// Tree is the tree of an image. Close it after the last read.
type Tree = volume.Tree

// OpenTree opens the tree of img, which is in file. If Trident has no reader for the file
// system, the kernel mounts it for this process alone (see package loop), which needs root. So
// the caller must have compared all blocks of img with a root hash that it trusts.
func OpenTree(img *ddi.Image, file *os.File) (Tree, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	v, err := volume.FindOnly(file, info.Size(), string(img.Arch()))
	if err != nil {
		return nil, err
	}
	tree, err := v.Open(file, volume.KernelMount)
	if err != nil && os.Geteuid() != 0 && errkind.Of(err) == errkind.Unsupported {
		err = errkind.WithHint(err, "The kernel has to mount this file system, because Trident has no reader for it: run the command as root.")
	}
	return tree, err
}

// CheckOwn fails unless an image is one of Trident and has only files of Trident. So a
// person who may sign it can replace Trident, but nothing else of the host.
func CheckOwn(fsys fs.FS, r Release) error {
	if r.SysextID != Own {
		return errkind.Errorf(errkind.Incompatible, "it is not an image of trident: its SYSEXT_ID is %q", r.SysextID)
	}
	if _, err := version.Parse(r.Version); err != nil {
		return errkind.Errorf(errkind.Invalid, "the image's SYSEXT_VERSION_ID: %w", err)
	}
	if err := content.Check(fsys, ownPath); errkind.Hint(err) != "" {
		return err
	} else if err != nil {
		return errkind.WithHint(err, "an image of trident may carry trident's own files only")
	}
	_, err := fs.Stat(fsys, OwnDaemon)
	if errors.Is(err, fs.ErrNotExist) {
		return errkind.Errorf(errkind.Invalid, "the image has no %s", OwnDaemon)
	}
	return err
}

// ownPath reports whether an image of Trident may have a path. base.json belongs to the
// base; trust.d and verity.d are refused because they would add trusted keys.
func ownPath(name string) bool {
	switch name {
	case "usr", "usr/bin", "usr/lib", "usr/lib/extension-release.d", "usr/lib/systemd", "usr/lib/systemd/system",
		"usr/lib/systemd/system/sockets.target.upholds", "usr/lib/systemd/system/multi-user.target.upholds",
		"usr/lib/trident", OwnRescuer, OwnRelease, "usr/bin/trident", OwnDaemon,
		"usr/bin/trident-gateway", "usr/lib/sysusers.d", "usr/lib/sysusers.d/trident-gateway.conf", // the optional gateway
		"usr/share", "usr/share/man", "usr/share/doc", "usr/share/licenses",
		"usr/share/bash-completion", "usr/share/bash-completion/completions", "usr/share/bash-completion/completions/trident",
		"usr/share/zsh", "usr/share/zsh/site-functions", "usr/share/zsh/site-functions/_trident",
		"usr/share/fish", "usr/share/fish/vendor_completions.d", "usr/share/fish/vendor_completions.d/trident.fish":
		return true
	}
	dir, ours := path.Dir(name), strings.HasPrefix(path.Base(name), Own)
	switch dir {
	case "usr/lib/systemd/system", "usr/lib/systemd/system/sockets.target.upholds", "usr/lib/systemd/system/multi-user.target.upholds":
		return ours
	case "usr/share/man":
		return strings.HasPrefix(path.Base(name), "man")
	}
	if path.Dir(dir) == "usr/share/man" {
		return ours
	}
	return name == "usr/share/doc/trident" || name == "usr/share/licenses/trident" ||
		strings.HasPrefix(name, "usr/share/doc/trident/") || strings.HasPrefix(name, "usr/share/licenses/trident/")
}
