// Package inroot reads and changes the files of an OS tree as that OS would see them.
//
// The tree may be the running system ("/"), a mounted one, or a folder of a test. The
// package follows its symbolic links, absolute ones too, relative to the root folder of the
// tree, so that no link leads out of it. os.Root would refuse absolute links, of which /etc
// has many.
//
// To read, the package lets the kernel open files (openat2(2), RESOLVE_IN_ROOT, Linux 5.6),
// so there is no race between check and open. To change files, it walks to their folder
// step by step, by descriptor, and works in that open folder (a [Dir]), because users of the
// OS may own folders and links of the path and change them at the same time. The walk
// refuses a step that such a user could have redirected to files of others
// ([UnsafeError]). A rename cannot change which folder a Dir has reached.
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

// Open opens a regular file or a folder for reading. It fails, with errkind.Invalid, for any
// other file, and then has not opened it. The result is an *os.File.
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

// Stat describes a file; it follows a link. It does not open devices.
func (r FS) Stat(name string) (fs.FileInfo, error) {
	f, err := r.open("stat", name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// Lstat describes a file, or a link itself. It does not open devices.
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
	for range 100 { // EAGAIN: a concurrent rename elsewhere (openat2(2))
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

// maxEntries is the most entries of a folder of settings or extensions.
const maxEntries = 1024

// List returns the names in a folder, sorted; none if the folder does not exist.
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

// DropIns returns the files whose names end in suffix in the folders dirs, sorted by name.
// Of files with the same name it returns that in the earliest folder. A file that is empty
// or a link to /dev/null masks the files of its name in later folders (systemd.unit(5));
// DropIns does not return it. DropIns ignores a dangling link.
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

// IsMask reports whether a file is empty or a link to /dev/null, which masks other files
// (see DropIns). It fails with fs.ErrNotExist for a dangling link.
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
