package image

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

const maxTable = 16 << 20 // bytes of the region with the partition table

// Verify reads the whole image. It fails if a digest or a length is wrong, and returns all
// other faults: the warnings of Open, and contradictions of the partition table and the
// metadata. progress, which may be nil, gets numbers of compressed bytes.
func (i *Image) Verify(ctx context.Context, progress func(done, total int64)) ([]Finding, error) {
	out := append([]Finding{}, i.warnings...)
	var done, total int64
	for _, p := range i.files() {
		total += p.File.Compressed
	}
	for _, p := range i.files() {
		_, err := p.check(ctx, func(n int64) {
			if progress != nil {
				progress(done+n, total)
			}
		})
		if err != nil {
			return out, fmt.Errorf("verify image: %w", err)
		}
		done += p.File.Compressed
	}
	if i.meta.Disk == nil {
		return out, nil
	}
	table, front, err := i.table(ctx)
	if err != nil {
		return append(out, Finding{Name: NameGPT, Path: i.parts[0].File.Path, Text: "is not a partition table: " + err.Error()}), nil
	}
	return append(out, i.compare(table, front)...), nil
}

// Table returns the partition table of an image of version 1.2 or later. Its Damaged says
// that the backup table is missing, because images do not have it. Its Size is that of the
// disk by the table, which the metadata may contradict.
func (i *Image) Table(ctx context.Context) (*gpt.Disk, error) {
	table, _, err := i.table(ctx)
	return table, err
}

func (i *Image) table(ctx context.Context) (table *gpt.Disk, front int64, err error) {
	if i.meta.Disk == nil {
		return nil, 0, errkind.Errorf(errkind.Precondition, "read partition table: images of version %s have none", i.meta.Version)
	}
	p := i.parts[0]
	if p.File.Size > maxTable {
		return nil, 0, corrupt("the partition table has %d bytes, %d are read at most", p.File.Size, maxTable)
	}
	s, err := p.Open(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer s.Close()
	data, err := io.ReadAll(s)
	if err != nil {
		return nil, 0, err
	}
	r, lba := bytes.NewReader(data), int64(i.meta.Disk.LBASize)
	front, size, err := gpt.Extent(r, lba)
	if err != nil {
		return nil, 0, err
	}
	table, err = gpt.ReadDisk(r, size, lba)
	return table, front, err
}

// compare returns contradictions of the table and the metadata.
func (i *Image) compare(t *gpt.Disk, front int64) []Finding {
	var out []Finding
	find := func(path, format string, args ...any) {
		out = append(out, Finding{Name: NameGPT, Path: path, Text: fmt.Sprintf(format, args...)})
	}
	d := i.meta.Disk
	if t.Size != d.Size {
		find("disk.size", "is %d, and the partition table is for %d", d.Size, t.Size)
	}
	if region := d.Regions[0].Image.Size; region != front {
		find("disk.gptRegions[0].image.uncompressedSize", "is %d, and the partition table ends at byte %d", region, front)
	}
	entries := map[int]gpt.Entry{}
	for _, e := range t.Entries {
		entries[e.Number] = e
	}
	last := int64(-1)
	for n, r := range d.Regions {
		if r.Type != PartitionRegion {
			continue
		}
		at := fmt.Sprintf("disk.gptRegions[%d]", n)
		e, ok := entries[r.Number]
		delete(entries, r.Number)
		switch {
		case !ok:
			find(at+".number", "is %d, and the partition table has no such partition", r.Number)
			continue
		case r.Image.Size > e.Size:
			find(at+".image.uncompressedSize", "is %d, and the partition has %d bytes", r.Image.Size, e.Size)
		case e.Offset < last:
			find(at, "is on the disk before a region that precedes it in the metadata")
		}
		last = e.Offset
		out = append(out, i.compareType(at, r, e)...)
	}
	for _, e := range t.Entries {
		if _, left := entries[e.Number]; left {
			find("disk.gptRegions", "lacks partition %d of the partition table", e.Number)
		}
	}
	return out
}

// compareType compares the type of a partition in the table with that of its file system in
// the metadata.
func (i *Image) compareType(at string, r Region, e gpt.Entry) []Finding {
	for n, f := range i.meta.Filesystems {
		if f.Image.Path == r.Image.Path && f.PartType != e.Type {
			return []Finding{{Name: NameGPT, Path: fmt.Sprintf("images[%d].partType", n), Text: fmt.Sprintf("is %s, and %s has %s in the partition table", f.PartType, at, e.Type)}}
		}
	}
	return nil
}
