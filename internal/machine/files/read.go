package files

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// Bounds of a read and of an archive, in bytes.
const (
	chunk        = 64 << 10
	MaxBytes     = 16 << 30
	DefaultRead  = 64 << 20
	DefaultCopy  = 1 << 30
	maxUnmeasure = 1 << 20 // content of a file whose size is 0
)

// Stat describes a file. It does not follow a link in the last part of name.
func (s *Service) Stat(name string) (Info, error) {
	n, _, err := s.find(name, true)
	if err != nil {
		return Info{}, err
	}
	defer n.close()
	return n.info(), nil
}

// Read gives the bytes of a regular file to send, in pieces that are valid until send returns,
// after its description to begin. It starts at offset, and ends after most bytes (0 is
// DefaultRead); isTruncated then says that there are more. A file of the kernel that
// would block has ended.
func (s *Service) Read(ctx context.Context, name string, offset, most int64, begin func(Info) error, send func([]byte) error) (isTruncated bool, err error) {
	if most, err = bounded(most, DefaultRead); err != nil {
		return false, err
	}
	if offset < 0 {
		return false, errkind.Errorf(errkind.Invalid, "the offset is %d, which is less than 0", offset)
	}
	n, _, err := s.find(name, false)
	if err != nil {
		return false, err
	}
	defer n.close()
	f, err := n.open()
	if err != nil {
		return false, err
	}
	defer f.close()
	if err := begin(n.info()); err != nil {
		return false, err
	}
	buf := make([]byte, chunk)
	for {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		size, err := f.readAt(buf[:min(chunk, max(most, 1))], offset)
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		case most == 0: // all that was asked for is sent: there is more
			return true, nil
		}
		if err := send(buf[:size]); err != nil {
			return false, err
		}
		offset, most = offset+int64(size), most-int64(size)
	}
}

// bounded returns the bound that a caller has chosen, or the default for 0.
func bounded(most, byDefault int64) (int64, error) {
	switch {
	case most < 0 || most > MaxBytes:
		return 0, errkind.Errorf(errkind.Invalid, "max_bytes is %d, it must be from 0 to %d", most, int64(MaxBytes))
	case most == 0:
		return byDefault, nil
	}
	return most, nil
}

// A content is an open regular file. It is a descriptor that Go's poller does not know:
// with it, a read of a file of the kernel such as /proc/kmsg would wait.
type content struct {
	fd   int
	path string
}

func (c *content) close() { _ = unix.Close(c.fd) }

// open opens a regular file for reading. The error for anything else is of kind Invalid, and for
// a locked file of kind Denied.
func (n *node) open() (*content, error) {
	if !n.isRegular() {
		return nil, errkind.Errorf(errkind.Invalid, "%s is %s, not a regular file", n.path, regfile.KindOf(modeOf(n.st.Mode)))
	}
	if n.lock != nil {
		return nil, n.lock
	}
	for {
		fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(n.fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: n.path, Err: err}
		}
		return &content{fd, n.path}, nil
	}
}

// readAt reads into buf from offset. It returns io.EOF at the end, and for a file that would
// block.
func (c *content) readAt(buf []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pread(c.fd, buf, offset)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0:
			return 0, io.EOF
		case errors.Is(err, unix.ESPIPE): // a file of the kernel that is read in order only
			if n, err = unix.Read(c.fd, buf); errors.Is(err, unix.EINTR) {
				continue
			}
			if errors.Is(err, unix.EAGAIN) || err == nil && n == 0 {
				return 0, io.EOF
			}
		}
		if err != nil {
			return 0, &fs.PathError{Op: "read", Path: c.path, Err: err}
		}
		return n, nil
	}
}
