package content

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// forbiddenAttr returns the name of an extended attribute that gives a capability or
// changes how overlayfs merges (Documentation/filesystems/overlayfs.rst), or "".
func (c *contentCheck) forbiddenAttr(name string, info fs.FileInfo) (string, error) {
	names := attributesIn(info)
	if names == nil && (info.IsDir() || info.Mode().IsRegular()) {
		f, err := c.fsys.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if names, err = attributesOf(f); err != nil {
			return "", err
		}
	}
	return find(names, func(name string) bool { return name == "security.capability" || isOverlayAttr(name) }), nil
}

// overlayAttr returns the name of an attribute of overlayfs on a folder, or "". It ignores
// attributes that it cannot read.
func overlayAttr(f fs.File) string {
	names, err := attributesOf(f)
	if err != nil {
		return ""
	}
	return find(names, isOverlayAttr)
}

func isOverlayAttr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

func find(names []string, wanted func(string) bool) string {
	if i := slices.IndexFunc(names, wanted); i >= 0 {
		return names[i]
	}
	return ""
}

// attributesOf returns the sorted names of the extended attributes of a file in a mounted tree
// or in an erofs.
func attributesOf(f fs.File) ([]string, error) {
	file, ok := f.(*os.File)
	if !ok {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		return attributesIn(info), nil
	}
	list := make([]byte, 64<<10) // the kernel's XATTR_LIST_MAX
	n, err := unix.Flistxattr(int(file.Fd()), list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "list attributes of", Path: file.Name(), Err: err}
	}
	names := strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	return names, nil
}

// attributesIn returns the sorted names of the attributes that the reader of an erofs reports
// with a file; nil, and not an empty list, if info is from another reader.
func attributesIn(info fs.FileInfo) []string {
	x, ok := info.(interface{ GetAllXattr() map[string]string })
	if !ok {
		return nil
	}
	return append([]string{}, slices.Sorted(maps.Keys(x.GetAllXattr()))...)
}
