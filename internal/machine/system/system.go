// Package system reads what the kernel says about the running host: load, memory, CPUs,
// disks, mounts and processes.
//
// It reads the files of proc(5) and sysfs itself and nothing else, so that a call costs
// little more than these reads. Every file has a largest size. A field that a kernel does
// not have is left at its zero value or, where 0 means something else, is nil. Errors are of
// kind Unsupported if a file is missing or has an unknown form.
package system

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// A Reader reads the files below one root. Its methods may be called concurrently.
type Reader struct {
	root string
	now  func() time.Time
	// statfs asks for the size of a file system.
	statfs func(path string, out *unix.Statfs_t) error
	// serverTime is how long Mounts waits for all servers of file systems together.
	serverTime time.Duration

	mu sync.Mutex
	// pending are the mounts whose statfs has not returned.
	pending map[string]bool
}

// New returns a Reader of the files below root: "/" for the running kernel.
func New(root string) *Reader {
	return &Reader{root: root, now: time.Now, statfs: unix.Statfs, serverTime: 2 * time.Second, pending: map[string]bool{}}
}

// The largest sizes of files, in bytes. A host with 8192 CPUs has 20 MiB of cpuinfo.
const (
	smallFile = 64 << 10
	largeFile = 32 << 20
)

// ticks is the number of clock ticks in a second, the unit of times in /proc. It is 100 on
// every architecture of Trident (USER_HZ of the kernel).
const ticks = 100

// ofTicks returns the duration of n clock ticks, at most 292 years.
func ofTicks(n uint64) time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Second/ticks)
	return time.Duration(min(n, most)) * (time.Second / ticks) //nolint:gosec // n is at most most
}

// millis returns the duration of n milliseconds, at most 292 years.
func millis(n uint64) time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	return time.Duration(min(n, most)) * time.Millisecond //nolint:gosec // n is at most most
}

// path returns the path of a file below the root.
func (r *Reader) path(name string) string {
	if r.root == "/" {
		return "/" + name
	}
	return filepath.Join(r.root, name)
}

// read returns the content of a file. It neither waits for a FIFO nor takes a terminal, and
// fails for more than limit bytes.
func (r *Reader) read(name string, limit int) (string, error) {
	return readPath(r.path(name), limit)
}

func readPath(path string, limit int) (string, error) {
	fd, err := open(path)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var small [4096]byte
	buf, n := small[:], 0
	for {
		got, err := unix.Read(fd, buf[n:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return "", &fs.PathError{Op: "read", Path: path, Err: err}
		case got == 0:
			return string(buf[:n]), nil
		}
		if n += got; n > limit {
			return "", errkind.Errorf(errkind.TooLarge, "%s has more than %d bytes", path, limit)
		}
		if n == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

func open(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// line returns the first line of a small file, "" if it cannot be read: many files of sysfs
// exist for some devices only.
func (r *Reader) line(name string) string {
	text, err := r.read(name, smallFile)
	if err != nil {
		return ""
	}
	text, _, _ = strings.Cut(text, "\n")
	return strings.TrimSpace(text)
}

// number returns the number in a small file, 0 if it does not have one.
func (r *Reader) number(name string) uint64 { return parseNumber(r.line(name)) }

// parseNumber returns a decimal number, 0 if text is not one.
func parseNumber(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// scaled returns n * unit, or the largest number if that is more.
func scaled(n, unit uint64) uint64 {
	if n > (1<<64-1)/unit {
		return 1<<64 - 1
	}
	return n * unit
}

// failed returns the error of a call that could not read the file it needs.
func failed(doing string, err error) error {
	kind := errkind.Of(err)
	if kind == errkind.Internal && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)) {
		kind = errkind.Unsupported
	}
	return errkind.Errorf(kind, "%s: %w", doing, err)
}

// malformed returns the error of a file with an unknown form.
func malformed(doing, file, text string) error {
	const most = 80
	if len(text) > most {
		text = text[:most]
	}
	return errkind.Errorf(errkind.Unsupported, "%s: unknown form of /%s: %q", doing, file, text)
}
