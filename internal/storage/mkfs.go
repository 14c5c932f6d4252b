package storage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
)

const (
	swapType    = "swap"
	mkfsTimeout = 10 * time.Minute
)

// formatUUID is id as blkid(8) shows it for a file system of that type, or ""
// for one whose tool takes none.
func formatUUID(typ, id string) string {
	switch hostconfig.FilesystemType(typ) {
	case hostconfig.VFAT:
		return strings.ToUpper(id[:4] + "-" + id[4:8])
	case hostconfig.NTFS:
		return ""
	}
	return id
}

// mkfs is the tool that makes a file system, and its arguments.
func mkfs(f Format) ([]string, error) {
	switch f.Type {
	case string(hostconfig.Ext4):
		// Without the seed for hashes of directories two runs differ.
		return []string{"mkfs.ext4", "-q", "-F", "-U", f.UUID, "-E", "hash_seed=" + f.UUID, f.Path}, nil
	case string(hostconfig.XFS):
		return []string{"mkfs.xfs", "-q", "-f", "-m", "uuid=" + f.UUID, f.Path}, nil
	case string(hostconfig.VFAT):
		return []string{"mkfs.vfat", "-i", strings.ToLower(strings.ReplaceAll(f.UUID, "-", "")), f.Path}, nil
	case string(hostconfig.NTFS):
		return []string{"mkfs.ntfs", "-q", "-Q", "-F", f.Path}, nil
	case swapType:
		return []string{"mkswap", "-f", "-U", f.UUID, f.Path}, nil
	}
	return nil, errkind.Errorf(errkind.Unsupported, "no file system of type %s can be made", f.Type)
}

// format makes a file system, has it on the medium, and looks whether it is
// there.
func (t Tools) format(ctx context.Context, f Format) error {
	args, err := mkfs(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mkfsTimeout)
	defer cancel()
	idle, err := t.open(f.Path, true) // not all tools refuse one that is mounted
	if err != nil {
		return err
	}
	if err := idle.Close(); err != nil {
		return err
	}
	if _, err := t.Runner.Run(ctx, args[0], args[1:]...); err != nil {
		return err
	}
	dev, err := t.open(f.Path, true)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := dev.Sync(); err != nil {
		return err
	}
	if got := blockdev.Probe(dev, dev.Size()); got.Type != f.Type || got.UUID != f.UUID {
		return errkind.Errorf(errkind.Corrupt, "read back: there is %q with UUID %q, and not %q with %q", got.Type, got.UUID, f.Type, f.UUID)
	}
	return nil
}

// formatName is what upstream calls the failure to make f.
func formatName(f Format) string {
	if f.Type == swapType {
		return "CreateSwap"
	}
	return "CreateFilesystems"
}

func (f Format) step() string { return fmt.Sprintf("make %s on %s", f.Type, f.ID) }
