package image

import (
	"cmp"
	"fmt"
	"io"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/filekind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// Spec has the inputs from which an image is made.
type Spec struct {
	ID         string // a UUID, or ""
	Arch       Arch
	OSRelease  OSRelease
	Packages   []Package // nil: the image has no packages
	Bootloader Bootloader
	Disk       io.ReaderAt // a disk with a GPT; see also [Assemble]
	DiskSize   int64       // bytes
	// Mounts are the file systems that the metadata describes. Partitions without a
	// Mount are in the image too, without a description.
	Mounts []Mount
	// Extensions are carried beside the partitions.
	Extensions []ExtensionSpec
	// FrameSize, if not 0, packs each file system with a verity hash tree in zstd frames of so
	// many bytes, with an index, so that an update fetches only the frames with changed blocks.
	FrameSize int64
	// Warn, if set, gets the findings of [Metadata.Doubts].
	Warn func(Finding)
	// Temp is the folder for temporary files, which are as large as the image.
	Temp string
}

// ExtensionSpec is an extension image to carry, at its default path in the OS.
type ExtensionSpec struct {
	Class   string // Sysext or Confext
	Content io.ReaderAt
	Size    int64 // bytes
}

// Mount is the mount point of the file system of a partition.
type Mount struct {
	Number     int
	MountPoint string
	Type, UUID string // "": read from the partition, for ext2 to 4, xfs, btrfs and vfat
	HashTree   int    // number of the partition with its verity hash tree, maybe its own; 0: no tree
	RootHash   string // of the hash tree
	HashOffset int64  // offset of the hash tree in its partition
}

// FindMounts proposes mounts for a disk of size bytes by the types of its partitions
// (Discoverable Partitions Specification). It omits types without a usual mount point and
// partitions without a known file system.
func FindMounts(disk io.ReaderAt, size int64) ([]Mount, error) {
	table, err := findTable(disk, size)
	if err != nil {
		return nil, fmt.Errorf("find mounts: %w", err)
	}
	places := map[string]string{
		"esp": "/boot/efi", "xbootldr": "/boot", "root": "/", "usr": "/usr", "home": "/home", "srv": "/srv", "var": "/var", "tmp": "/var/tmp",
	}
	var out []Mount
	taken := map[string]bool{}
	for _, e := range table.Entries {
		place := places[PartTypeName(e.Type)]
		fsType, uuid := probe(io.NewSectionReader(disk, e.Offset, e.Size))
		if place != "" && !taken[place] && fsType != "" && uuid != "" {
			taken[place] = true
			out = append(out, Mount{Number: e.Number, MountPoint: place, Type: fsType, UUID: uuid})
		}
	}
	return out, nil
}

// OpenPartition returns the bytes of a partition of a disk of size bytes.
func OpenPartition(disk io.ReaderAt, size int64, number int) (*io.SectionReader, error) {
	table, err := findTable(disk, size)
	if err != nil {
		return nil, fmt.Errorf("open partition %d: %w", number, err)
	}
	for _, e := range table.Entries {
		if e.Number == number {
			return io.NewSectionReader(disk, e.Offset, e.Size), nil
		}
	}
	return nil, errkind.Errorf(errkind.NotFound, "open partition %d: the disk has no such partition", number)
}

// findTable reads a partition table, for sectors of 512 or 4096 bytes. It fails if one copy
// of the table is damaged, because the disk may be incomplete.
func findTable(disk io.ReaderAt, size int64) (*gpt.Disk, error) {
	d, err := gpt.ReadDisk(disk, size, 512)
	if err != nil {
		if other, otherErr := gpt.ReadDisk(disk, size, 4096); otherErr == nil {
			d, err = other, nil
		} else {
			err = cmp.Or(filekind.Mistaken(disk, size, filekind.Disk), err)
		}
	}
	if err == nil && d.Damaged != "" {
		return nil, errkind.Errorf(errkind.Corrupt, "the partition table is damaged: %s", d.Damaged)
	}
	return d, err
}

// regions returns the regions in the order of the disk, without the values that pack sets,
// and the partition table.
func (s *Spec) regions() ([]piece, *gpt.Disk, error) {
	table, err := findTable(s.Disk, s.DiskSize)
	if err != nil {
		return nil, nil, err
	}
	front, size, err := gpt.Extent(s.Disk, table.SectorSize)
	if err != nil {
		return nil, nil, err
	}
	if size != s.DiskSize || front > maxTable {
		return nil, nil, errkind.Errorf(errkind.Corrupt, "the partition table is for a disk of %d bytes, and the disk has %d", size, s.DiskSize)
	}
	out := []piece{{content: s.Disk, region: Region{Type: PrimaryGPT, Image: File{Path: "images/primary-gpt.rawzst", Size: front}}}}
	for _, e := range byPlace(table.Entries) {
		if arch := partTypeArch(e.Type); arch != "" && arch != s.Arch {
			err := errkind.Errorf(errkind.Incompatible, "partition %d has the type of a %s for %s, and the image is to be for %s", e.Number, PartTypeName(e.Type), arch, s.Arch)
			return nil, nil, errkind.WithHint(err, "Name the architecture that the disk is for, or build the disk for %s.", s.Arch)
		}
		r := Region{Type: PartitionRegion, Number: e.Number, Image: File{Path: fmt.Sprintf("images/partition-%d.rawzst", e.Number), Size: e.Size}}
		out = append(out, piece{region: r, content: s.Disk, off: e.Offset, partType: e.Type})
	}
	return out, table, nil
}

// filesystems returns the metadata of the mounts. The caller has packed the pieces.
func (s *Spec) filesystems(pieces []piece) ([]Filesystem, error) {
	byNumber := map[int]piece{}
	for _, p := range pieces[1:] {
		byNumber[p.region.Number] = p
	}
	out := []Filesystem{}
	for _, m := range s.Mounts {
		p, ok := byNumber[m.Number]
		if !ok {
			return nil, errkind.Errorf(errkind.NotFound, "the disk has no partition %d, which is to be at %s", m.Number, m.MountPoint)
		}
		f := Filesystem{Image: p.region.Image, MountPoint: m.MountPoint, Type: m.Type, UUID: m.UUID, PartType: p.partType}
		fsType, uuid := probe(io.NewSectionReader(s.Disk, p.off, p.region.Image.Size))
		if f.Type == "" {
			f.Type = fsType
		}
		if f.UUID == "" {
			f.UUID = uuid
		}
		if f.Type == "" || f.UUID == "" {
			err := errkind.Errorf(errkind.Invalid, "the type or the UUID of the file system of partition %d, for %s, is unknown", m.Number, m.MountPoint)
			return nil, errkind.WithHint(err, "Give both.")
		}
		if m.HashTree != 0 {
			tree, ok := byNumber[m.HashTree]
			if !ok {
				return nil, errkind.Errorf(errkind.NotFound, "the disk has no partition %d, which is to be the hash tree of %s", m.HashTree, m.MountPoint)
			}
			f.Verity = &Verity{Image: tree.region.Image, RootHash: m.RootHash, HashOffset: m.HashOffset}
		}
		out = append(out, f)
	}
	return out, nil
}
