package volume

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/filekind"
)

// FindOnly is Find for an image that a host is to keep. It fails unless the image has
// exactly one volume for the architecture arch, and a file system that an extension can
// have.
func FindOnly(r io.ReaderAt, size int64, arch string) (Volume, error) {
	v, err := findOnly(r, size, arch)
	if err != nil {
		return v, explain(r, size, v, err)
	}
	return v, nil
}

func findOnly(r io.ReaderAt, size int64, arch string) (Volume, error) {
	v, err := Find(r, size, arch)
	if errors.Is(err, ErrUnknown) {
		return v, errkind.Errorf(errkind.Incompatible, "has not exactly one partition for root or usr of the architecture %q", arch)
	}
	if err != nil {
		return v, err
	}
	if a, b, ok := overlapping(v.parts); ok {
		return v, fmt.Errorf("has partitions that overlap: bytes %d to %d and %d to %d", a.offset, a.end, b.offset, b.end)
	}
	switch {
	case isFileSystem(v.Format):
		return v, checkSize(v)
	case v.Format == formatLUKS:
		return v, errkind.Errorf(errkind.Unsupported, "is encrypted")
	}
	return v, errors.New("holds no file system that an extension can have")
}

// overlapping returns two partitions that overlap, if there are any.
func overlapping(parts []partition) (a, b partition, found bool) {
	sorted := slices.SortedFunc(slices.Values(parts), func(a, b partition) int { return cmp.Compare(a.offset, b.offset) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].offset < sorted[i-1].end {
			return sorted[i-1], sorted[i], true
		}
	}
	return a, b, false
}

// explain returns the error for an image that findOnly has refused. It does not call
// a file of another kind damaged.
func explain(r io.ReaderAt, size int64, v Volume, err error) error {
	// systemd also accepts a file system without a partition table.
	if known := filekind.Mistaken(r, size, filekind.Extension); known != nil && !isFileSystem(v.Format) {
		return fmt.Errorf("read the image: %w", known)
	}
	if errkind.Of(err) == errkind.Internal {
		err = errkind.With(errkind.Corrupt, err)
	}
	return fmt.Errorf("the image %w", err)
}

// All returns every file system of an image that this package knows, as if systemd mounted it
// on the root; none of a damaged table.
func All(r io.ReaderAt, size int64) []Volume {
	whole := io.NewSectionReader(r, 0, size)
	candidates := []*io.SectionReader{whole}
	if kind, err := detect(whole); err == nil && kind == formatGPT {
		parts, err := readTable(whole)
		if err != nil {
			return nil
		}
		candidates = nil
		for _, p := range parts {
			candidates = append(candidates, io.NewSectionReader(whole, p.offset, p.end-p.offset))
		}
	}
	var all []Volume
	for _, data := range candidates {
		if kind, err := detect(data); err == nil && isFileSystem(kind) {
			all = append(all, Volume{Data: data, Format: kind})
		}
	}
	return all
}

func isFileSystem(f Format) bool {
	switch f {
	case Erofs, formatSquash, formatExt, formatXFS, formatBtrfs, formatF2FS:
		return true
	}
	return false
}
