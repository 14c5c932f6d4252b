package rescue

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/unmerged"
	"github.com/trident-project/trident/internal/version"
)

// BaseVersion returns the version that a package or the OS image put into /usr, or
// "" on a host that has Trident from an extension only. It reads the file below
// the extensions that are merged over /usr, so no extension can claim another
// version.
func BaseVersion(root string) (_ string, err error) {
	tree, err := unmerged.Open(root)
	if err != nil {
		return "", fmt.Errorf("read base version: %w", err)
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	data, err := readRegular(filepath.Join(tree.Path(), Base), maxRecord, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read base version: %w", err)
	}
	return ParseBase(data)
}

// ParseBase returns the version in the content of the file Base.
func ParseBase(data []byte) (string, error) {
	var base struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(data, &base); err != nil {
		return "", fmt.Errorf("read base version from /%s: %w", Base, err)
	}
	if _, err := version.Parse(base.Version); err != nil {
		return "", fmt.Errorf("read base version from /%s: %w", Base, err)
	}
	return base.Version, nil
}

// LinkedVersion returns the target of the extension link and the version in the
// name of that target. Both are "" without a link; the version is "" if the name
// is not that of an image in the store. LinkedVersion fails if the path is not a
// symbolic link.
func LinkedVersion(root string) (v, link string, err error) {
	link, err = os.Readlink(filepath.Join(root, Link))
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if errors.Is(err, syscall.EINVAL) {
		return "", "", fmt.Errorf("read extension link: %s is not a link: remove it", filepath.Join(root, Link))
	}
	if err != nil {
		return "", "", fmt.Errorf("read extension link: %w", err)
	}
	name, ok := strings.CutSuffix(filepath.Base(link), ".raw")
	if _, perr := version.Parse(name); !ok || perr != nil {
		return "", link, nil
	}
	return name, link, nil
}

// RemoveOutdatedLink removes the extension link if the base is at least as new as
// the linked version, and returns a sentence that says what it did. A package
// calls it after it has changed the base. RemoveOutdatedLink merges and restarts
// nothing.
func RemoveOutdatedLink(root string) (string, error) {
	base, err := BaseVersion(root)
	if err != nil {
		return "", err
	}
	linked, link, err := LinkedVersion(root)
	switch {
	case err != nil:
		return "", err
	case link == "":
		return "no extension of trident is active", nil
	case linked == "":
		return fmt.Sprintf("the extension link points to %s, which is not an image in the store of trident: it stays", link), nil
	case base == "":
		return fmt.Sprintf("trident %s stays: there is no base", linked), nil
	}
	b, err := version.Parse(base)
	if err != nil {
		return "", err
	}
	l, err := version.Parse(linked)
	if err != nil {
		return "", err
	}
	if version.Compare(l, b) > 0 {
		return fmt.Sprintf("the extension with trident %s stays: the base is %s", linked, base), nil
	}
	if err := atomicfile.Remove(filepath.Join(root, Link)); err != nil {
		return "", fmt.Errorf("remove extension link: %w", err)
	}
	return fmt.Sprintf("the extension with trident %s is no longer linked: the base is %s", linked, base), nil
}
