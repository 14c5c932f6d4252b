// Package inroot reads and changes the files of an OS tree as that OS would see them.
//
// The tree may be the running system ("/"), a mounted one, or a folder of a
// test. Its symlinks, absolute ones too, are followed as if the tree were the
// whole world, so that a link in it can never lead outside. os.Root would refuse
// the absolute links that /etc is full of.
//
// What is only read is opened by the kernel (openat2(2), RESOLVE_IN_ROOT, Linux
// 5.6), hence there is no race between looking and opening. What is changed is
// changed in a [Dir], to which a walk of ours leads, step by step and by descriptor:
// users of the OS may own folders and links of the path, and be at work on them. A
// step is refused that one of them could have led to what is not theirs
// ([UnsafeError]). A folder that a walk has come to stays the same folder, whoever
// renames it.
package inroot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// FS is the tree below the folder of that name. It is an fs.FS: names have no
// leading slash, and links are followed.
type FS string

var _ fs.StatFS = FS("")

// Open opens a regular file or a folder for reading. Anything else is an error of
// kind Invalid and is not even opened. The result is an *os.File.
func (r FS) Open(name string) (fs.File, error) {
	at, err := r.open("open", name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	f, err := regfile.Reopen(at)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Stat is about what a link leads to. It does not open devices.
func (r FS) Stat(name string) (fs.FileInfo, error) {
	f, err := r.open("stat", name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// Lstat is about a link itself. It does not open devices.
func (r FS) Lstat(name string) (fs.FileInfo, error) {
	f, err := r.open("lstat", name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

func (r FS) open(op, name string, flags uint64) (*os.File, error) {
	full := path.Join(string(r), name)
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: full, Err: fs.ErrInvalid}
	}
	dir, err := unix.Open(string(r), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: string(r), Err: err}
	}
	defer unix.Close(dir)
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 100 { // EAGAIN is a rename elsewhere at the wrong moment (openat2(2))
		fd, err := unix.Openat2(dir, name, &how)
		if err == nil {
			return os.NewFile(uintptr(fd), full), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, &fs.PathError{Op: op, Path: full, Err: err}
		}
	}
	return nil, &fs.PathError{Op: op, Path: full, Err: unix.EAGAIN}
}

// ReadFile reads a regular file of at most limit bytes.
func (r FS) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	full := path.Join(string(r), name)
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", full)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errkind.Errorf(errkind.TooLarge, "%s has more than %d bytes", full, limit)
	}
	return data, nil
}

// maxEntries bounds a folder of settings or extensions.
const maxEntries = 1024

// List returns the names in a folder, sorted; none when there is no folder.
func (r FS) List(dir string) ([]string, error) {
	f, err := r.open("open", dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxEntries {
		return nil, errkind.Errorf(errkind.TooLarge, "%s has more than %d entries", path.Join(string(r), dir), maxEntries)
	}
	slices.Sort(names)
	return names, nil
}

// DropIns returns the files that end in suffix from folders of which an earlier
// one wins over a later one, name by name, and sorts them by name. A file that
// is empty or leads to /dev/null hides those of its name and is left out
// (systemd.unit(5) and conf.d folders everywhere), as is a link to nowhere,
// which hides nothing.
func (r FS) DropIns(suffix string, dirs ...string) ([]string, error) {
	found := map[string]string{}
	for _, dir := range dirs {
		names, err := r.List(dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if _, ok := found[name]; ok || !strings.HasSuffix(name, suffix) {
				continue
			}
			file := path.Join(dir, name)
			mask, err := r.IsMask(file)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue
			case err != nil:
				return nil, err
			case mask:
				file = ""
			}
			found[name] = file
		}
	}
	var files []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if found[name] != "" {
			files = append(files, found[name])
		}
	}
	return files, nil
}

// IsMask reports whether a file of settings is empty or leads to /dev/null, so that
// it stands for no settings. A link to nowhere is fs.ErrNotExist.
func (r FS) IsMask(file string) (bool, error) {
	link, err := r.open("stat", file, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return false, err
	}
	defer link.Close()
	target := make([]byte, unix.PathMax)
	if n, err := unix.Readlinkat(int(link.Fd()), "", target); err == nil && string(target[:n]) == os.DevNull {
		return true, nil // also in a tree without device nodes
	}
	info, err := r.Stat(file)
	if err != nil {
		return false, err
	}
	return info.Mode()&fs.ModeCharDevice != 0 || info.Mode().IsRegular() && info.Size() == 0, nil
}
