// Package regfile opens and hashes regular files that a user has named as a source, and refuses
// everything else: an open of a FIFO waits for a writer, an open of some devices has an
// effect (a watchdog starts), and a read of other devices never ends.
//
// The package resolves a name once, without opening the file (O_PATH), and opens a regular
// file through the same descriptor. So nobody can replace the file between the check and the
// open. Links are followed, also those below /proc/self/fd.
package regfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Open opens a regular file for reading. The error for anything else is of kind
// Invalid and names it.
func Open(name string) (*os.File, error) {
	return open(name, 0, fs.FileMode.IsRegular, "a regular file")
}

// OpenPlain opens a file as Open does, and refuses a link in the last part of name.
func OpenPlain(name string) (*os.File, error) {
	return open(name, unix.O_NOFOLLOW, fs.FileMode.IsRegular, "a regular file")
}

// OpenDisk opens a regular file or a block device for reading, as Open does.
func OpenDisk(name string) (*os.File, error) {
	return open(name, 0, func(m fs.FileMode) bool {
		return m.IsRegular() || m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0
	}, "a regular file or a block device")
}

// ReadFile returns the content of a regular file. The error for one of more than limit bytes
// is of kind TooLarge.
func ReadFile(name string, limit int64) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errkind.Errorf(errkind.TooLarge, "%s has more than %d bytes", name, limit)
	}
	return data, nil
}

func open(name string, flags int, fits func(fs.FileMode) bool, wanted string) (*os.File, error) {
	for {
		fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, explainURL(name, &fs.PathError{Op: "open", Path: name, Err: err})
		}
		at := os.NewFile(uintptr(fd), name)
		f, err := reopen(at, fits, wanted)
		return f, errors.Join(err, at.Close())
	}
}

// explainURL adds a hint to the error for a file that does not exist if its name is a URL.
func explainURL(name string, err error) error {
	scheme, rest, isURL := strings.Cut(name, "://")
	switch {
	case !isURL || !errors.Is(err, fs.ErrNotExist) || strings.Contains(scheme, "/"):
		return err
	case strings.EqualFold(scheme, "file"):
		return errkind.WithHint(err, "A file is wanted here, not a URL: name %s.", rest)
	case strings.EqualFold(scheme, "oci"):
		return errkind.WithHint(err, "Name a file, not a URL. Download the file first: oras pull %s", rest)
	}
	return errkind.WithHint(err, "Name a file, not a URL. Download the file first: curl -fLO %s", name)
}

// Reopen opens the file of at, a descriptor with O_PATH, for reading. It must be a regular
// file or a folder. at stays open.
func Reopen(at *os.File) (*os.File, error) {
	return reopen(at, func(m fs.FileMode) bool { return m.IsRegular() || m.IsDir() }, "a regular file")
}

func reopen(at *os.File, fits func(fs.FileMode) bool, wanted string) (*os.File, error) {
	info, err := at.Stat()
	if err != nil {
		return nil, err
	}
	if !fits(info.Mode()) {
		return nil, errkind.Errorf(errkind.Invalid, "%s is %s, not %s", at.Name(), KindOf(info.Mode()), wanted)
	}
	for {
		fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(at.Fd())), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: at.Name(), Err: err}
		}
		return os.NewFile(uintptr(fd), at.Name()), nil
	}
}

// KindOf names the kind of a file for people: "a folder".
func KindOf(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "a regular file"
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeCharDevice != 0:
		return "a character device"
	case m&fs.ModeDevice != 0:
		return "a block device"
	}
	return fmt.Sprintf("of the type %s", m.Type())
}
