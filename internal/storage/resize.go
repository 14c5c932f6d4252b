package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

const resizeTimeout = 30 * time.Minute

// Resize grows the file system on path, which comes from an image and is not mounted, to
// the size of its partition. Resize changes no byte of a file system that has that size
// already, because its bytes were verified and a hash tree may cover them. Otherwise e2fsck
// checks the file system before, as resize2fs demands. Resize only grows ext2 to ext4: xfs
// grows only while it is mounted, and vfat does not grow.
func Resize(ctx context.Context, tools Tools, typ, path string) error {
	if ResizeTools(typ) == nil {
		return nil
	}
	fits, err := tools.fits(path)
	if err == nil && !fits {
		err = grow(ctx, tools.Runner, path)
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("resize the %s file system on %s: %w", typ, path, err), errkind.NameDeployImages)
	}
	return nil
}

func grow(ctx context.Context, tools run.Runner, path string) error {
	ctx, cancel := context.WithTimeout(ctx, resizeTimeout)
	defer cancel()
	_, err := tools.Run(ctx, "e2fsck", "-f", "-y", path)
	// 1 says that faults were found and corrected (e2fsck(8)).
	if exit, ok := errors.AsType[*run.ExitError](err); ok && exit.Status == "exit status 1" {
		err = nil
	}
	if err == nil {
		_, err = tools.Run(ctx, "resize2fs", path)
	}
	return err
}

// ResizeTools returns the names of the programs that Resize runs for a file system of that type.
func ResizeTools(typ string) []string {
	switch typ {
	case "ext2", "ext3", "ext4":
		return []string{"e2fsck", "resize2fs"}
	}
	return nil
}

// fits reports whether the file system on a device has the size of the device, except for
// less than one block.
func (t Tools) fits(path string) (_ bool, err error) {
	dev, err := t.open(path, false)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	blocks, blockSize, err := extSize(dev)
	return blocks == dev.Size()/blockSize, err
}

// extSize returns the size that the superblock says of an ext2, ext3 or ext4 file system (kernel
// documentation, filesystems/ext4/super). The block size is in bytes.
func extSize(r io.ReaderAt) (blocks, blockSize int64, err error) {
	const at, size, most = 1024, 1024, 6 // most: blocks of 64 KiB
	b := make([]byte, size)
	if _, err := r.ReadAt(b, at); err != nil {
		return 0, 1, fmt.Errorf("read the superblock: %w", err)
	}
	shift := binary.LittleEndian.Uint32(b[24:])
	if binary.LittleEndian.Uint16(b[56:]) != 0xef53 || shift > most {
		return 0, 1, errkind.Errorf(errkind.Corrupt, "the superblock is missing")
	}
	blocks = int64(binary.LittleEndian.Uint32(b[4:]))
	const bit64 = 0x80
	if binary.LittleEndian.Uint32(b[96:])&bit64 != 0 {
		blocks |= int64(binary.LittleEndian.Uint32(b[0x150:])) << 32
	}
	return blocks, 1024 << shift, nil
}
