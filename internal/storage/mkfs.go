package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/run"
)

const (
	swapType    = "swap"
	mkfsTimeout = 10 * time.Minute
)

// formatUUID returns id in the form that blkid(8) prints for a file system of that type, or
// "" if the tool for that type accepts no UUID.
func formatUUID(typ, id string) string {
	switch hostconfig.FilesystemType(typ) {
	case hostconfig.VFAT:
		return strings.ToUpper(id[:4] + "-" + id[4:8])
	case hostconfig.NTFS:
		return ""
	}
	return id
}

// mkfs returns the tool that makes a file system, and its arguments.
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

// Rehearse returns an error if mkfs.xfs refuses to make an xfs of the plan: the least size
// that it accepts differs between its releases. Rehearse runs it without effect (-N) on
// files without content in dir, which Rehearse deletes.
func (p *Plan) Rehearse(ctx context.Context, tools run.Runner, dir string) error {
	for _, f := range p.described.Formats {
		if f.Type != string(hostconfig.XFS) {
			continue
		}
		target, err := p.Target(f.ID)
		if err == nil {
			err = p.rehearse(ctx, tools, dir, target)
		}
		if exit, ok := errors.AsType[*run.ExitError](err); ok { // the first line has the cause, then comes the usage
			cause, _, _ := strings.Cut(exit.Output, "\n")
			err = errkind.Errorf(errkind.Invalid, "%s: %s", exit.Tool, cause)
		}
		if err != nil {
			return errkind.WithName(fmt.Errorf("%s (%s, %s): %w", f.step(), f.Path, bytesize.Plain(target.Size), err), formatName(f))
		}
	}
	return nil
}

func (p *Plan) rehearse(ctx context.Context, tools run.Runner, dir string, on Target) (err error) {
	file, err := os.CreateTemp(dir, "mkfs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	if err := errors.Join(file.Truncate(on.Size), file.Close()); err != nil {
		return nil // no file can be that large here
	}
	ctx, cancel := context.WithTimeout(ctx, mkfsTimeout)
	defer cancel()
	_, err = tools.Run(ctx, "mkfs.xfs", "-N", "-f", "-s", fmt.Sprintf("size=%d", on.SectorSize), file.Name())
	return err
}

// format makes a file system, flushes it to the medium, and checks that it is there.
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
		return errkind.Errorf(errkind.Corrupt, "read back: found %q with UUID %q, not %q with %q", got.Type, got.UUID, f.Type, f.UUID)
	}
	return nil
}

// formatName returns upstream's name of a failure to make f.
func formatName(f Format) string {
	if f.Type == swapType {
		return errkind.NameCreateSwap
	}
	return errkind.NameCreateFilesystems
}

func (f Format) step() string { return fmt.Sprintf("make %s on %s", f.Type, f.ID) }
