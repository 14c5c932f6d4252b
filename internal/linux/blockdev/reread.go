package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

func (d *file) Reread(ctx context.Context) error {
	if !d.block {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// EBUSY means a partition in use, EINVAL a device that the kernel does not scan for
	// partitions. In both cases the kernel still accepts single changes, and so does a
	// kernel without support for GPT, which finds no partitions.
	_, err := unix.IoctlRetInt(int(d.f.Fd()), unix.BLKRRPART)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL) {
		err = nil
	}
	if err == nil {
		err = d.updateKernel()
	}
	if err != nil {
		return fmt.Errorf("re-read partition table of %s: %w", d.f.Name(), err)
	}
	return nil
}

// span is the place of a partition on its disk, in bytes.
type span struct{ offset, size int64 }

// updateKernel removes and adds single partitions until the kernel has those of the table.
func (d *file) updateKernel() error {
	table, err := gpt.ReadDisk(d.f, d.size, d.sector)
	if err != nil {
		return err
	}
	want := map[int]span{}
	for _, e := range table.Entries {
		want[e.Number] = span{e.Offset, e.Size}
	}
	have, err := d.known()
	if err != nil {
		return err
	}
	for n, s := range have {
		if want[n] == s {
			delete(want, n)
			continue
		}
		err := d.partition(unix.BLKPG_DEL_PARTITION, n, span{})
		if errors.Is(err, unix.EBUSY) {
			return errkind.Errorf(errkind.Precondition, "partition %d is in use", n)
		}
		if err != nil && !errors.Is(err, unix.ENXIO) {
			return fmt.Errorf("remove partition %d: %w", n, err)
		}
	}
	for n, s := range want {
		if err := d.partition(unix.BLKPG_ADD_PARTITION, n, s); err != nil {
			return fmt.Errorf("add partition %d: %w", n, err)
		}
	}
	return nil
}

// known returns the partitions that the kernel has for d, from sysfs.
func (d *file) known() (map[int]span, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.f.Fd()), &st); err != nil {
		return nil, err
	}
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	names, err := filepath.Glob(dir + "/*/partition")
	if err != nil {
		return nil, err
	}
	out := map[int]span{}
	for _, name := range names {
		var v [3]int64
		for i, file := range []string{"partition", "start", "size"} {
			data, err := os.ReadFile(filepath.Join(filepath.Dir(name), file))
			if err != nil {
				return nil, err
			}
			if v[i], err = strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err != nil {
				return nil, err
			}
		}
		out[int(v[0])] = span{v[1] * sysfsSector, v[2] * sysfsSector}
	}
	return out, nil
}

// partition adds or deletes a partition in the kernel with BLKPG (linux/blkpg.h).
func (d *file) partition(op int32, number int, s span) error {
	p := blkpgPartition{Start: s.offset, Length: s.size, Number: int32(number)}
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	err := ioctl(d.f, unix.BLKPG, unsafe.Pointer(&arg))
	runtime.KeepAlive(&p)
	return err
}

// blkpgPartition is struct blkpg_partition of linux/blkpg.h.
type blkpgPartition struct {
	Start, Length int64
	Number        int32
	_             [2][64]byte
	_             int32
}
