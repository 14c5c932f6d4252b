package blockdev

import (
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// leastDirect is the size of a read or a write, in bytes, from which on it bypasses the page
// cache. A smaller one may be one of many that the cache joins.
const leastDirect = 256 << 10

// direct is a second description of an open block device, with O_DIRECT (open(2)): reads and
// writes bypass the page cache, which the kernel keeps coherent. A large image is written
// faster so, because it is copied once less, and reaches the medium in whole requests.
type direct struct {
	f     *os.File
	align int64 // bytes that the address, the offset and the length must be multiples of
}

// openDirect opens the device of f again, or returns nil if the device does not allow it. The
// name in /proc leads to that device, whatever its path leads to by now.
func openDirect(f *os.File, sector int64) *direct {
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return &direct{os.NewFile(uintptr(fd), f.Name()), max(sector, int64(os.Getpagesize()))}
}

// fileFor returns the description of the device for p at off: that of d, which may be nil, if
// p is large and aligned, or else buffered.
func (d *direct) fileFor(buffered *os.File, p []byte, off int64) *os.File {
	if d == nil || len(p) < leastDirect {
		return buffered
	}
	if address := uintptr(unsafe.Pointer(unsafe.SliceData(p))); (int64(address)|off|int64(len(p)))&(d.align-1) != 0 {
		return buffered
	}
	return d.f
}

func (d *direct) close() error {
	if d == nil {
		return nil
	}
	return d.f.Close()
}
