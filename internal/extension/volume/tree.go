package volume

import (
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/loop"
)

// A Tree is the open tree of a volume.
type Tree interface {
	fs.ReadLinkFS // with a plain FS, fs.Lstat would follow links
	io.Closer
}

// A Mounter mounts a file system that this package cannot read itself.
type Mounter func(image *os.File, offset, size int64, fstype string) (Tree, error)

// KernelMount mounts a file system by the kernel: see loop.Open.
func KernelMount(image *os.File, offset, size int64, fstype string) (Tree, error) {
	return loop.Open(image, offset, size, fstype)
}

// Open opens the tree of a volume of image, at usr/ if IsUsr.
func (v Volume) Open(image *os.File, mount Mounter) (Tree, error) {
	tree, err := v.open(image, mount)
	if err == nil && v.IsUsr {
		return atUsr{UsrFS{tree}, tree}, nil
	}
	return tree, err
}

func (v Volume) open(image *os.File, mount Mounter) (Tree, error) {
	if v.Format == Erofs {
		tree, err := ddi.OpenErofs(v.Data)
		if err != nil && errkind.Of(err) != errkind.Unsupported { // the kernel can mount a compressed one
			return nil, err
		}
		if links, ok := tree.(fs.ReadLinkFS); ok && err == nil {
			return nothingToClose{links}, nil
		}
	}
	_, offset, size := v.Data.Outer()
	return mount(image, offset, size, string(v.Format))
}

type nothingToClose struct{ fs.ReadLinkFS }

func (nothingToClose) Close() error { return nil }

type atUsr struct {
	UsrFS
	io.Closer
}

// UsrFS shows a tree at usr/; it has no other folder.
type UsrFS struct{ fs.FS }

func (u UsrFS) Open(name string) (fs.File, error) {
	inner, err := u.inside("open", name)
	if err != nil {
		return nil, err
	}
	return u.FS.Open(inner)
}

func (u UsrFS) Lstat(name string) (fs.FileInfo, error) {
	inner, err := u.inside("lstat", name)
	if err != nil {
		return nil, err
	}
	return fs.Lstat(u.FS, inner)
}

func (u UsrFS) ReadLink(name string) (string, error) {
	inner, err := u.inside("readlink", name)
	if err != nil {
		return "", err
	}
	return fs.ReadLink(u.FS, inner)
}

func (UsrFS) inside(op, name string) (string, error) {
	if name == "usr" {
		return ".", nil
	}
	if inner, ok := strings.CutPrefix(name, "usr/"); ok {
		return inner, nil
	}
	return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}
