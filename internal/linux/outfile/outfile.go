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
	"time"

	"golang.org/x/sys/unix"

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
	return errors.Join(fill(&interruptible{ctx, out, false}), f.wrap(out.Close()))
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

// ErrReaderGone is the error of a write of Interruptible into a pipe whose readers have all
// closed it.
var ErrReaderGone = errors.New("the reader of the output is gone")

// Interruptible returns, if f is a pipe, a writer whose Write fails at most one second
// after ctx ends, even if nobody reads the pipe. It opens the pipe again, because
// O_NONBLOCK on f would change f for every process that shares it. For any other file,
// and if it cannot open the pipe again, Interruptible returns f. After the last reader has
// closed the pipe, Write returns ErrReaderGone.
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
	return &interruptible{ctx, own, true}
}

// interruptible is a file whose writes end at most grace after ctx.
type interruptible struct {
	ctx            context.Context
	file           *os.File
	saysReaderGone bool // EPIPE becomes ErrReaderGone
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
	if w.saysReaderGone && errors.Is(err, unix.EPIPE) {
		err = fmt.Errorf("%w: %w", ErrReaderGone, err)
	}
	return n, err
}

func (f File) wrap(err error) error {
	if err != nil {
		err = fmt.Errorf("write %s: %w", cmp.Or(f.Path, `""`), err)
	}
	return err
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
