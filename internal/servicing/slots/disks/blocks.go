package disks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/verity"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// A blockUpdate writes one verified part with the blocks that the other slot has, and fetches
// the others. The hash tree of the part is on the disk already.
type blockUpdate struct {
	w    *writing
	n    int // of the part
	part record.Part
	from image.Partition
}

// canUpdateBlocks reports whether a part may be written by blocks: it has a hash tree, the other
// slot has an older version of it, and no earlier daemon has begun to write it as a whole.
func canUpdateBlocks(r *record.Record, p record.Part) bool {
	return p.Tree != nil && r.Purpose == record.Updates && p.At.Compressed == 0 && p.At.Uncompressed == 0
}

// run writes the part to the device at path. It returns false if that is not possible, after a
// line in the log that says why: then the whole part has to be fetched.
func (u *blockUpdate) run(path string) (done bool, err error) {
	counts, err := u.write(path)
	if reason, is := errors.AsType[unfitForBlocks](err); is {
		u.w.r.Logf(slog.LevelInfo, "fetching all of %s: %v", u.part.Name, reason.error)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	u.w.r.Logf(slog.LevelInfo, "of %d blocks of %s, %d were in place, %d came from the other slot, and %d from the image, in %d bytes",
		counts.All, u.part.Name, counts.Kept, counts.Reused, counts.Fetched, counts.Bytes)
	return true, nil
}

// unfitForBlocks is the reason why a part cannot be written by blocks.
type unfitForBlocks struct{ error }

func (u unfitForBlocks) Unwrap() error { return u.error }

func (u *blockUpdate) write(path string) (counts image.BlockCounts, err error) {
	if available, known := u.w.d.Machine.Available(); known && available < image.UpdateMemory(u.from.File.Size) {
		return counts, unfitForBlocks{errkind.Errorf(errkind.TooLarge, "writing it by blocks needs %d bytes of memory, and %d are available", image.UpdateMemory(u.from.File.Size), available)}
	}
	tree, err := u.tree()
	if err != nil {
		return counts, u.w.d.treeError(u.w.c, &u.part, err)
	}
	blocks, err := u.from.OpenBlocks(u.w.ctx, tree)
	if err != nil {
		if errkind.Of(err) == errkind.Unsupported {
			err = unfitForBlocks{err}
		}
		return counts, err
	}
	old, err := u.openOther()
	if err != nil {
		return counts, unfitForBlocks{fmt.Errorf("open the other slot: %w", err)}
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	target, err := u.w.d.Machine.Disks.Open(path, true)
	if err != nil {
		return counts, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	return blocks.Update(u.w.ctx, target, image.BlockUpdate{
		Old: old, OldSize: old.Size(), Saved: u.saved,
		Progress: func(done int64) {
			u.w.progress(u.n, int64(float64(done)/float64(u.from.File.Size)*float64(u.part.Size)))
		},
	})
}

// tree reads the hash tree of the part from the disk, and verifies it by the root hash of the
// image's metadata.
func (u *blockUpdate) tree() (_ *verity.Tree, err error) {
	root, err := u.part.Root()
	if err != nil {
		return nil, err
	}
	hash, err := u.w.d.openPart(u.w.r, u.w.c, u.part.Tree.Device)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, hash.Close()) }()
	sb, err := verity.ReadSuperblock(hash)
	if err != nil {
		return nil, err
	}
	if err := sb.Fits(u.from.File.Size, hash.Size()); err != nil {
		return nil, err
	}
	return verity.OpenTree(u.w.ctx, hash, sb.HashSize(), root)
}

// openOther opens the partition of the other slot.
func (u *blockUpdate) openOther() (device, error) {
	path, err := u.w.r.State.OtherPath(u.w.c, u.part.Device)
	if err != nil {
		return nil, err
	}
	return u.w.d.Machine.Disks.Open(path, false)
}

// saved records how many bytes were fetched, which count for the data budget after a restart.
func (u *blockUpdate) saved() error {
	u.w.mu.Lock()
	defer u.w.mu.Unlock()
	u.w.r.State.Used = u.w.meter.Used()
	return u.w.r.Checkpoint(u.w.ctx)
}

// finishBlocks records that a part is written by blocks: VerifyTrees has to prove it.
func (w *writing) finishBlocks(ctx context.Context, n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := &w.r.State.Parts[n]
	if err := done.WrittenByBlocks(); err != nil {
		return err
	}
	w.r.State.Used = w.meter.Used()
	w.r.Logf(slog.LevelInfo, "%s is written", done.Name)
	return w.r.Checkpoint(ctx)
}
