package disks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/verity"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// partsOf returns the parts of a file system of the image: its partition and, if dm-verity
// verifies it, the partition with its hash tree.
func partsOf(s *hostconfig.Storage, f *hostconfig.Filesystem, have image.Filesystem) ([]record.Part, error) {
	at := path.Clean(f.MountPoint.Path)
	p := record.Part{
		Name: at, Device: storage.DataID(s, f.DeviceID), File: have.Image.Path, ESP: f.IsESP(), Size: have.Image.Compressed,
		SHA384: have.Image.SHA384, Type: have.Type, ReadOnly: f.MountPoint.ReadOnly(),
	}
	v := storage.VerityOf(s, f.DeviceID)
	if v == nil && have.Verity == nil {
		return []record.Part{p}, nil
	}
	if err := sameVerity(v, f.IsESP(), at, have); err != nil {
		return nil, err
	}
	tree := have.Verity.Image
	p.Tree = &record.Tree{Device: v.HashDeviceID, File: tree.Path, RootHash: have.Verity.RootHash}
	return []record.Part{p, {
		Name: "the hash tree of " + at, Device: v.HashDeviceID, File: tree.Path, Size: tree.Compressed, SHA384: tree.SHA384,
		Type: record.HashTree, ReadOnly: true,
	}}, nil
}

// sameVerity fails unless the configuration and the image agree on the hash tree of a file
// system, in a form that this version sets up.
func sameVerity(v *hostconfig.Verity, esp bool, at string, have image.Filesystem) error {
	mismatch := func(kind errkind.Kind, format string, args ...any) error {
		return errkind.WithName(errkind.Errorf(kind, format, args...), errkind.NameVerityMismatch)
	}
	switch {
	case esp && have.Verity != nil:
		return errkind.WithName(errkind.Errorf(errkind.Invalid, "the image has a verity hash tree for %s, an EFI system partition, which firmware cannot verify", at), errkind.NameUnexpectedVerityOnEsp)
	case v == nil:
		err := mismatch(errkind.Invalid, "the image has a verity hash tree for %s, and the configuration mounts no verity device there", at)
		return errkind.WithHint(err, "Add the partitions for the data and the hash tree, and a device in storage.verity; or use an image without verity.")
	case have.Verity == nil:
		err := mismatch(errkind.Invalid, "the configuration mounts the verity device %q at %s, and the image has no hash tree for it", v.ID, at)
		return errkind.WithHint(err, "Use an image that was built with verity, or remove the device from storage.verity.")
	case have.Inline() || have.Verity.HashOffset != 0:
		return mismatch(errkind.Unsupported, "the image's hash tree for %s is not at the beginning of a partition of its own, and storage.verity cannot describe another place", at)
	case len(have.Verity.RootHash) != record.RootHashDigits:
		return mismatch(errkind.Unsupported, "the root hash for %s has %d digits, and that of the supported SHA-256 has %d", at, len(have.Verity.RootHash), record.RootHashDigits)
	}
	return nil
}

// VerifyTrees compares each verified part, all of it, with its hash tree, both as they are on
// the disk, and the tree with the root hash of the image's metadata. It skips a part that
// this operation has compared since the host booted. The error names the first wrong block.
func (d *Disks) VerifyTrees(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	for i := range r.State.Parts {
		p := &r.State.Parts[i]
		if p.Tree == nil || p.Tree.IsProven(d.Runner.Life.Boot) {
			continue
		}
		if err := d.verifyTree(ctx, r, c, p); err != nil {
			if ctx.Err() != nil && errkind.Of(err) == errkind.Internal {
				return errkind.With(errkind.Cancelled, err)
			}
			return d.treeError(c, p, err)
		}
		if err := p.Proven(p.Tree.RootHash, d.Runner.Life.Boot); err != nil {
			return err
		}
		r.Logf(slog.LevelInfo, "%s matches its hash tree, root hash %s", p.Name, p.Tree.RootHash)
		if err := r.Checkpoint(ctx); err != nil {
			return err
		}
	}
	return nil
}

// treeError is the error for a part that does not match its hash tree, or for a wrong tree.
func (d *Disks) treeError(c *hostconfig.Config, p *record.Part, err error) error {
	err = fmt.Errorf("compare %s with the hash tree of image %s: %w", p.Name, fetch.Redact(string(c.Spec().Image.URL)), err)
	return errkind.WithName(err, errkind.NameCreateVerity)
}

func (d *Disks) verifyTree(ctx context.Context, r *record.Run, c *hostconfig.Config, p *record.Part) (err error) {
	root, err := p.Root()
	if err != nil {
		return err
	}
	data, err := d.openPart(r, c, p.Device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	hash, err := d.openPart(r, c, p.Tree.Device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hash.Close()) }()
	sb, err := verity.ReadSuperblock(hash)
	if err != nil {
		return err
	}
	if err := sb.Fits(data.Size(), hash.Size()); err != nil {
		return err
	}
	// The kernel never reads what follows the data and the tree, so it may be anything.
	return verity.Verify(ctx, data, sb.DataSize(), hash, sb.HashSize(), root, func(done, total int64) { r.Progress(done, total) })
}

// device is the part of a blockdev.Device that a comparison needs.
type device interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// openPart opens a device of the configuration, that of the slot of the operation.
func (d *Disks) openPart(r *record.Run, c *hostconfig.Config, id string) (device, error) {
	at, err := r.State.Path(c, id)
	if err != nil {
		return nil, err
	}
	return d.Machine.Disks.Open(at, false)
}
