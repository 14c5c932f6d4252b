package disks

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/verity"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// CheckVerity checks the hash trees of the image, and that the sealed command line of its
// UKI opens them on this host. It records whether the new OS is immutable.
func (d *Disks) CheckVerity(ctx context.Context, r *record.Run, e *record.Examined) error {
	r.State.Immutable = false
	for i := range r.State.Parts {
		p := &r.State.Parts[i]
		if p.Tree == nil {
			continue
		}
		if r.State.Purpose == record.Updates && !record.RootIsPair(&e.Config.Spec().Storage) {
			err := errkind.Errorf(errkind.Unsupported, "%s is verified and updated, and the root file system is not an A/B volume, so the update would change the files of the running system", p.Name)
			return errkind.WithName(errkind.WithHint(err, "Make the root file system an A/B volume, too."), errkind.NameInvalidHostConfigurationDynamic)
		}
		sb, err := d.checkTree(ctx, r, e, p)
		if err != nil {
			return errkind.WithName(fmt.Errorf("the image's hash tree of %s: %w", p.Name, err), errkind.NameCreateVerity)
		}
		if err := d.otherTreeUUID(r, p, sb); err != nil {
			return err
		}
		if b := e.Image.Metadata().Bootloader; b == nil || b.Type != image.SystemdBoot {
			continue // Trident writes the command line
		}
		o := opening{run: r, examined: e, part: p, cmdline: parseCmdline(e.Cmdline), treeUUID: treeUUID(sb)}
		if err := o.check(); err != nil {
			return err
		}
	}
	return nil
}

// checkTree reads the superblock of the tree of p from the image. It is not verified yet, so
// wrong bytes can only make Trident refuse the image.
func (d *Disks) checkTree(ctx context.Context, r *record.Run, e *record.Examined, p *record.Part) (sb verity.Superblock, err error) {
	hash := r.State.HashOf(p)
	if hash == nil {
		return sb, errkind.Errorf(errkind.Internal, "it is not among the parts of the image")
	}
	data, err := p.In(e.Image)
	if err != nil {
		return sb, err
	}
	tree, err := hash.In(e.Image)
	if err != nil {
		return sb, err
	}
	head, err := headOf(ctx, *hash, e.Image)
	if err != nil {
		return sb, err
	}
	if sb, err = verity.ReadSuperblock(bytes.NewReader(head)); err != nil {
		return sb, err
	}
	return sb, sb.Fits(data.File.Size, tree.File.Size)
}

// otherTreeUUID refuses a hash tree whose UUID one in use has: an initrd that looks for the
// UUID might find either of them.
func (d *Disks) otherTreeUUID(r *record.Run, p *record.Part, sb verity.Superblock) error {
	if r.State.Purpose == record.Installs {
		return nil
	}
	inv, err := d.Machine.Inventory()
	if err != nil {
		return err
	}
	for _, disk := range inv.Disks {
		for _, q := range disk.Partitions {
			if q.Content.Type != record.HashTree || !q.Use.InUse() {
				continue
			}
			other, err := d.superblock(q.Path)
			if err == nil && other.UUID == sb.UUID {
				err := errkind.Errorf(errkind.Invalid, "the image's hash tree of %s has the UUID %s, as has %s, which is %s", p.Name, treeUUID(sb), q.Path, q.Use)
				return errkind.WithName(errkind.WithHint(err, "Build the image again, with new UUIDs for its file systems and hash trees."), errkind.NameDuplicateFsUuidAbUpdate)
			}
		}
	}
	return nil
}

func (d *Disks) superblock(device string) (sb verity.Superblock, err error) {
	dev, err := d.Machine.Disks.Open(device, false)
	if err != nil {
		return sb, err
	}
	sb, err = verity.ReadSuperblock(dev)
	return sb, errors.Join(err, dev.Close())
}

// treeUUID returns the UUID of a hash tree as udev writes it.
func treeUUID(sb verity.Superblock) string { return uuidText(hex.EncodeToString(sb.UUID[:])) }
