// Package outfile writes results to the paths that people name.
//
// A person may name any file: a symbolic link, a device such as /dev/null, a pipe, or
// by mistake an input of the command. The package replaces a regular file in one step
// when the result is whole, so that the file has its old content after a failure. It
// keeps a link and replaces its target. It writes into devices and pipes. Any other
// path is an error before the command begins its work.
package outfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// A File is the destination of a result.
type File struct {
	// Path is the path that the person named. "-" is Stdout.
	Path string
	// Mode is the mode of the written file, also if it replaces another one.
	Mode fs.FileMode
	// Inputs are the files and folders from which the command makes the result. Path
	// must not be one of these files, by any of its names, or be in one of these
	// folders. Inputs that do not exist, and empty names, have no effect.
	Inputs []string
	// Stdout is the destination for the path "-". Without Stdout that path is an error.
	Stdout io.Writer
}

// maxLinks bounds the symbolic links of a path, as in the kernel (path_resolution(7)).
const maxLinks = 40

// place is a resolved File.
type place struct {
	path   string
	stdout bool // the result goes to File.Stdout
	direct bool // the result is written into the file, which is not replaced
}

// CheckStream returns the error that Stream would return for the path, and writes
// nothing. Errors are of the kinds Invalid and Precondition.
func (f File) CheckStream() error {
	_, err := f.resolve(true)
	return f.wrap(err)
}

// Stream calls fill with a writer to the file. After a failure a regular file has its
// old content, and a device or pipe has received what fill wrote before. If nobody reads
// a pipe, Stream waits until ctx ends.
func (f File) Stream(ctx context.Context, fill func(io.Writer) error) error {
	p, err := f.resolve(true)
	switch {
	case err != nil:
		return f.wrap(err)
	case p.stdout:
		return fill(f.Stdout)
	case !p.direct:
		return atomicfile.WriteFunc(p.path, f.Mode, fill)
	}
	out, err := openStream(ctx, p.path)
	if err != nil {
		return f.wrap(err)
	}
	defer graceAfter(ctx, out)()
	return errors.Join(fill(&interruptible{ctx, out}), f.wrap(out.Close()))
}

const (
	// grace bounds a write after its context has ended.
	grace = time.Second
	// readerEvery is the time between two attempts to open a pipe.
	readerEvery = 100 * time.Millisecond
)

// openStream opens a device or a pipe. It waits until a process reads the pipe.
func openStream(ctx context.Context, path string) (*os.File, error) {
	tick := time.NewTicker(readerEvery)
	defer tick.Stop()
	for {
		out, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if !errors.Is(err, unix.ENXIO) {
			return out, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("no process reads the pipe: %w", context.Cause(ctx))
		}
	}
}

// Interruptible returns, if f is a pipe, a writer whose Write fails at most one second
// after ctx ends, even if nobody reads the pipe. It opens the pipe again, because
// O_NONBLOCK on f would change f for every process that shares it. For any other file,
// and if it cannot open the pipe again, Interruptible returns f.
func Interruptible(ctx context.Context, f *os.File) io.Writer {
	info, err := f.Stat()
	if err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		return f
	}
	own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return f
	}
	graceAfter(ctx, own)
	return &interruptible{ctx, own}
}

// interruptible is a file whose writes end at most grace after ctx.
type interruptible struct {
	ctx  context.Context
	file *os.File
}

// graceAfter makes a running write fail at the time grace after ctx ends.
func graceAfter(ctx context.Context, f *os.File) func() bool {
	return context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Now().Add(grace)) })
}

func (w *interruptible) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil { // a file without deadlines does not block
		_ = w.file.SetWriteDeadline(time.Now().Add(grace))
	}
	n, err := w.file.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no process reads the output: %w", context.Cause(w.ctx))
	}
	return n, err
}

func (f File) wrap(err error) error {
	if err != nil {
		err = fmt.Errorf("write %s: %w", cmp.Or(f.Path, `""`), err)
	}
	return err
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

// Whole returns the path, without links, of the regular file to replace, for a result that
// is written in any order. It fails, with errkind.Invalid or errkind.Precondition, if the
// path is a folder, a device, a pipe, a socket or an input.
func (f File) Whole() (string, error) {
	p, err := f.resolve(false)
	return p.path, f.wrap(err)
}

// IsFile reports whether the result becomes a regular file. Then the command may print
// messages to standard output, which does not have the result.
func (f File) IsFile() bool {
	p, err := f.resolve(true)
	return err == nil && !p.stdout && !p.direct
}

// TempDir returns a folder for large temporary files: that of the result if it becomes a
// regular file, else os.TempDir.
func (f File) TempDir() string {
	p, err := f.resolve(true)
	if err != nil || p.stdout || p.direct {
		return os.TempDir()
	}
	return filepath.Dir(p.path)
}
