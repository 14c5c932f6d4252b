// Package ddi reads, builds and signs discoverable disk images: a GPT with an
// erofs, its dm-verity tree and the signature of the tree's root hash, as the
// Discoverable Partitions Specification describes them and systemd merges them.
//
// Open checks the structure of an image. It does not verify the image: package trust
// does, with VerifyTree and a signature by a trusted key. Open accounts for every byte:
// each is in the table, which has checksums; in a partition; or is zero. So a signature
// covers the whole file; see Image for the exception.
//
// Open accepts only the layout that systemd-repart makes for an extension: one data
// partition, its hash tree, at most one signature, nothing else. It refuses an image
// that two readers could understand differently.
package ddi

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/filekind"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/verity"
)

// maxGap bounds each gap before, between and after partitions, in bytes. checkGaps
// reads every gap.
const maxGap = 4 << 20

// The partition attributes that an image may have. No-auto (63) is not allowed: it
// would hide from systemd a partition that this package sees.
const (
	attrGrow     = uint64(1) << 59
	attrReadOnly = uint64(1) << 60
)

// Image is an image whose structure Open has checked. It reads from the reader of
// Open, which must stay open, and is safe for concurrent use.
//
// The hash tree and the signature together cover every byte of the file, except the
// UUID in the verity superblock, which nothing uses. The caller that checks the
// signature decides how much of the signature partition it checks.
type Image struct {
	r          io.ReaderAt
	arch       Arch
	rootHash   [32]byte
	signature  *Signature
	table      *gpt.Table
	data, hash *io.SectionReader
}

// Arch returns the architecture that the partition types name.
func (m *Image) Arch() Arch { return m.arch }

// RootHash returns the root hash, which is in the UUIDs of the partitions.
func (m *Image) RootHash() [32]byte { return m.rootHash }

// Signature returns the unverified signature, or nil if the image is not signed.
func (m *Image) Signature() *Signature { return m.signature }

// Table returns the partition table.
func (m *Image) Table() *gpt.Table { return m.table }

// Open reads and checks the structure of an image of size bytes. Errors name the first
// fault. Their kind is Corrupt if the image is damaged, Invalid if it is another kind of
// file or has no hash tree, Incompatible if a partition has another type or is for another
// architecture, and Unsupported if package verity does not read its form of hash tree.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	m, err := open(r, size)
	if err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	return m, nil
}

func open(r io.ReaderAt, size int64) (*Image, error) {
	m, err := openOutline(r, size)
	if err != nil {
		return nil, err
	}
	return m, checkGaps(r, m.table)
}

// OpenOutline is Open without the bytes outside of the table and the partitions. It reads the
// table, the superblock of the hash tree and the signature, and no data: it is for an image
// that is not on this host.
func OpenOutline(r io.ReaderAt, size int64) (*Image, error) {
	m, err := openOutline(r, size)
	if err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	return m, nil
}

func openOutline(r io.ReaderAt, size int64) (*Image, error) {
	table, err := gpt.Read(r, size)
	if err != nil {
		return nil, cmp.Or(filekind.Mistaken(r, size, filekind.Extension), err)
	}
	m := &Image{r: r, table: table}
	parts, err := classify(table.Partitions)
	if err != nil {
		return nil, cmp.Or(filekind.Mistaken(r, size, filekind.Extension), err)
	}
	m.arch = parts.arch
	m.rootHash = [32]byte(append(parts.data.ID[:], parts.hash.ID[:]...))
	m.data = section(r, parts.data)
	m.hash = section(r, parts.hash)
	sb, err := verity.ReadSuperblock(m.hash)
	if err != nil {
		return nil, err
	}
	if err := sb.Fits(m.data.Size(), m.hash.Size()); err != nil {
		return nil, err
	}
	if parts.sig == nil {
		return m, nil
	}
	if m.signature, err = readSignature(section(r, parts.sig)); err != nil {
		return nil, err
	}
	if m.signature.RootHash != m.rootHash {
		return nil, errkind.Errorf(errkind.Corrupt, "the signature is for root hash %x, the partitions are for %x", m.signature.RootHash, m.rootHash)
	}
	return m, nil
}

func section(r io.ReaderAt, p *gpt.Partition) *io.SectionReader {
	return io.NewSectionReader(r, p.Offset(), p.Size())
}

// partitions are the partitions of an image by role; sig may be nil.
type partitions struct {
	arch            Arch
	data, hash, sig *gpt.Partition
}

func classify(all []gpt.Partition) (partitions, error) {
	var out partitions
	var first partType
	for i := range all {
		p := &all[i]
		t, ok := typeOf(p.Type)
		if !ok {
			return out, errkind.WithHint(errkind.Errorf(errkind.Incompatible, "partition %d has type %s, which has no place in an extension image for %s or %s", i+1, p.Type, AMD64, ARM64),
				"An extension image has a partition for root or usr, its dm-verity tree and its signature, and no others. Build it for an architecture that Trident runs on.")
		}
		if p.Attributes&^(attrGrow|attrReadOnly) != 0 {
			return out, errkind.Errorf(errkind.Corrupt, "partition %d has the attributes %#x", i+1, p.Attributes)
		}
		if i == 0 {
			first = t
		}
		if t.arch != first.arch || t.usr != first.usr {
			return out, errkind.Errorf(errkind.Corrupt, "partition %d is for %s, partition 1 for %s", i+1, t, first)
		}
		slot := map[role]**gpt.Partition{roleData: &out.data, roleHash: &out.hash, roleSig: &out.sig}[t.role]
		if *slot != nil {
			return out, errkind.Errorf(errkind.Corrupt, "partition %d is a second %s partition", i+1, t.role)
		}
		*slot = p
	}
	out.arch = first.arch
	switch {
	case out.data == nil:
		return out, errkind.Errorf(errkind.Corrupt, "there is no data partition")
	case out.hash == nil:
		return out, errkind.WithHint(errkind.Errorf(errkind.Invalid, "there is no verity partition, so nothing protects the content of the image"),
			"Build it with one, in a partition of its own: Verity=data, Verity=hash and Verity=signature for systemd-repart, Verity=yes for mkosi, or trident sysext build.")
	}
	return out, nil
}

// checkGaps fails if a byte outside of the table and the partitions is not zero.
func checkGaps(r io.ReaderAt, t *gpt.Table) error {
	at := int64(gpt.OverheadFront)
	end := gpt.Partition{First: uint64(t.Size-gpt.OverheadBack) / 512}
	for _, p := range append(inOrder(t.Partitions), end) {
		n := p.Offset() - at
		if n > maxGap {
			return errkind.Errorf(errkind.Corrupt, "%d bytes from byte %d on belong to no partition", n, at)
		}
		gap := make([]byte, n)
		if _, err := r.ReadAt(gap, at); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read byte %d: %w", at, err)
		}
		for i, c := range gap {
			if c != 0 {
				return errkind.Errorf(errkind.Corrupt, "byte %d is set, but belongs to no partition", at+int64(i))
			}
		}
		at = p.Offset() + p.Size()
	}
	return nil
}

// Data returns the place of the data partition in the file, in bytes, and Hash that of the
// hash tree.
func (m *Image) Data() (offset, size int64) { return placeOf(m.data) }

// Hash is described at Data.
func (m *Image) Hash() (offset, size int64) { return placeOf(m.hash) }

func placeOf(s *io.SectionReader) (offset, size int64) {
	_, offset, size = s.Outer()
	return offset, size
}

// Tree returns the hash tree of the image, verified from root down. It reads neither data nor
// what follows the tree in its partition.
func (m *Image) Tree(ctx context.Context, root [32]byte) (*verity.Tree, error) {
	sb, err := verity.ReadSuperblock(m.hash)
	if err != nil {
		return nil, fmt.Errorf("verify hash tree of image: %w", err)
	}
	t, err := verity.OpenTree(ctx, m.hash, min(sb.HashSize(), m.hash.Size()), root)
	if err != nil {
		return nil, fmt.Errorf("verify hash tree of image: %w", err)
	}
	return t, nil
}

// VerifyTree reads the data and the hash tree of the image and compares them with the
// root hash. If a block does not match, it fails with kind Corrupt and names the block.
// For progress see verity.Verify.
func (m *Image) VerifyTree(ctx context.Context, progress func(done, total int64)) error {
	if err := verity.Verify(ctx, m.data, m.data.Size(), m.hash, m.hash.Size(), m.rootHash, progress); err != nil {
		return fmt.Errorf("verify image: %w", err)
	}
	return nil
}

// FS returns the file system in the image, an fs.ReadLinkFS. Errors are of kind Corrupt
// if it is damaged, and Unsupported if it is not an erofs, or has compressed files that package
// pclusters does not read.
func (m *Image) FS() (fs.FS, error) { return OpenErofs(m.data) }

// HashString returns the text of a root hash that is shown and signed: lower-case hex.
func HashString(root [32]byte) string { return hex.EncodeToString(root[:]) }
