package outfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// maxLinks bounds the symbolic links of a path, as in the kernel (path_resolution(7)).
const maxLinks = 40

// place is a resolved File.
type place struct {
	path   string
	stdout bool // the result goes to File.Stdout
	direct bool // the result is written into the file, which is not replaced
}

func (f File) resolve(stream bool) (place, error) {
	if f.Path == "-" {
		if stream && f.Stdout != nil {
			return place{stdout: true}, nil
		}
		err := errkind.Errorf(errkind.Invalid, "standard output cannot take this result, because the command writes it in any order")
		return place{}, errkind.WithHint(err, "Name a file. A file with that name is ./-")
	}
	p, info, err := follow(f.Path)
	if err != nil {
		return place{}, err
	}
	if info != nil {
		if err := f.checkKind(info, stream); err != nil {
			return place{}, err
		}
		p.direct = p.direct || !info.Mode().IsRegular()
	}
	if p.direct && !stream {
		return place{}, errkind.Errorf(errkind.Invalid, "it is a stream, and the command writes this result in any order: name a file")
	}
	return p, f.checkInputs(p, info)
}

// checkKind fails for a file that cannot be the destination of a result.
func (f File) checkKind(info fs.FileInfo, stream bool) error {
	const hint = "Name a file."
	mode := info.Mode()
	switch {
	case mode.IsDir():
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "it is a folder"), "Name a file in it.")
	case mode&fs.ModeSocket != 0:
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "it is a socket"), hint)
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "it is a block device"), hint)
	case !stream && !mode.IsRegular():
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "it is a device or a pipe, and the command writes this result in any order"), hint)
	}
	return nil
}

// follow follows the links of the last name of a path. info is nil if the file does not
// exist yet.
func follow(path string) (p place, info fs.FileInfo, err error) {
	if path == "" {
		return p, nil, errkind.Errorf(errkind.Invalid, "it does not name a file")
	}
	if strings.HasSuffix(path, "/") {
		return p, nil, errkind.WithHint(errkind.Errorf(errkind.Invalid, "it names a folder"), "Name a file in it.")
	}
	for range maxLinks {
		info, err = os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return place{path: path}, nil, folderExists(filepath.Dir(path))
		}
		if err != nil {
			return p, nil, err
		}
		dir := filepath.Dir(path)
		err := notPlanted(dir, info)
		if err == nil {
			err = leadsToItsUser(path, info)
		}
		if err != nil {
			return p, nil, err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			return place{path: path}, info, nil
		}
		if onProc(dir) { // such as /dev/stdout: an open file, which the other process expects to be kept
			info, err = os.Stat(path)
			return place{path: path, direct: true}, info, err
		}
		target, err := os.Readlink(path)
		if err != nil {
			return p, nil, err
		}
		if !filepath.IsAbs(target) {
			if dir, err = filepath.EvalSymlinks(dir); err != nil {
				return p, nil, err
			}
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return p, nil, unix.ELOOP
}

// notPlanted fails for a link or a pipe that another user has made in a folder such as
// /tmp, to redirect the files of others. The kernel has the same rule, but a host may
// disable it (proc_sys_fs(5), protected_symlinks and protected_fifos).
func notPlanted(dir string, info fs.FileInfo) error {
	if t := info.Mode().Type(); t != fs.ModeSymlink && t != fs.ModeNamedPipe {
		return nil
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	folder, err := os.Stat(dir)
	if err != nil || !ok || folder.Mode()&fs.ModeSticky == 0 || folder.Mode().Perm()&0o002 == 0 {
		return err
	}
	owner, ok := folder.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == owner.Uid || int(st.Uid) == os.Geteuid() {
		return nil
	}
	return errkind.WithHint(errkind.Errorf(errkind.Precondition, "user ID %d has put it into %s, where everybody may write", st.Uid, dir), "Name a file in a folder of your own.")
}

// leadsToItsUser fails for a link that a user other than root and the caller has made,
// unless its target belongs to that user. Otherwise that user could choose which file of
// another user is overwritten. See "unsafe path transition" in tmpfiles.d(5).
func leadsToItsUser(path string, link fs.FileInfo) error {
	st, ok := link.Sys().(*syscall.Stat_t)
	if !ok || link.Mode().Type() != fs.ModeSymlink || st.Uid == 0 || int(st.Uid) == os.Geteuid() {
		return nil
	}
	if file, err := os.Stat(path); err == nil {
		if to, ok := file.Sys().(*syscall.Stat_t); ok && to.Uid == st.Uid {
			return nil
		}
	}
	err := errkind.Errorf(errkind.Precondition, "it is a link of user ID %d to a file of another user", st.Uid)
	return errkind.WithHint(err, "Name the file itself.")
}

func folderExists(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errkind.Errorf(errkind.Precondition, "the folder %s does not exist", dir)
	case err == nil && !info.IsDir():
		return errkind.Errorf(errkind.Invalid, "%s is not a folder", dir)
	}
	return err
}

// onProc reports whether the links in a folder are those of proc(5), whose targets are
// open files, not paths.
func onProc(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.PROC_SUPER_MAGIC
}

// checkInputs fails if the result would overwrite an input or be in one.
func (f File) checkInputs(p place, info fs.FileInfo) error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(p.path))
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	for _, name := range f.Inputs {
		in, err := os.Stat(name)
		if name == "" || err != nil {
			continue // the reader of the input has the better error
		}
		if info != nil && info.Mode().IsRegular() && os.SameFile(in, info) {
			return errkind.WithHint(errkind.Errorf(errkind.Invalid, "it is the same file as the input %s, which would be lost", name),
				"Name another file.")
		}
		if in.IsDir() && inFolder(in, dir) {
			return errkind.WithHint(errkind.Errorf(errkind.Invalid, "it is in the folder %s, which is an input", name),
				"Name a file outside of that folder.")
		}
	}
	return nil
}

// inFolder reports whether a path without links is the folder or is below it.
func inFolder(folder fs.FileInfo, path string) bool {
	for {
		if info, err := os.Stat(path); err == nil && os.SameFile(folder, info) {
			return true
		}
		parent := filepath.Dir(path)
		if parent == path {
			return false
		}
		path = parent
	}
}
