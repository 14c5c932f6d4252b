package image

import (
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/trident-project/trident/internal/linux/gpt"
)

const alignment = 1 << 20 // bytes, of partitions on an assembled disk

// Part is a partition for Assemble.
type Part struct {
	Name    string
	Type    gpt.GUID
	ID      gpt.GUID // zero: derived from name, type and number
	Content io.ReaderAt
	Size    int64 // bytes
}

// Assemble returns a disk with the parts as partitions, in their order, for a [Spec]. It
// writes nothing: a read of the disk reads the parts.
func Assemble(parts []Part) (disk io.ReaderAt, size int64, err error) {
	t := &gpt.Table{DiskID: derive("disk", gpt.GUID{}, len(parts))}
	d := &assembled{}
	next := int64(alignment)
	for i, p := range parts {
		if p.Size <= 0 {
			return nil, 0, fmt.Errorf("assemble disk: partition %d is empty", i+1)
		}
		if p.ID == (gpt.GUID{}) {
			p.ID = derive(p.Name, p.Type, i+1)
		}
		room := (p.Size + alignment - 1) / alignment * alignment
		blocks := (p.Size + 511) / 512
		t.Partitions = append(t.Partitions, gpt.Partition{Type: p.Type, ID: p.ID, First: uint64(next / 512), Last: uint64(next/512 + blocks - 1), Name: p.Name})
		d.add(next, p.Size, p.Content)
		next += room
	}
	t.Size = next + alignment
	front, back := make(bytesAt, gpt.OverheadFront), make(bytesAt, gpt.OverheadBack)
	if err := gpt.Write(&ends{front, back, t.Size}, t); err != nil {
		return nil, 0, fmt.Errorf("assemble disk: %w", err)
	}
	d.add(0, int64(len(front)), front)
	d.add(t.Size-int64(len(back)), int64(len(back)), back)
	d.size = t.Size
	return d, t.Size, nil
}

// derive returns a UUID (RFC 9562, version 8), always the same for the same arguments.
func derive(name string, kind gpt.GUID, n int) gpt.GUID {
	sum := sha256.Sum256(fmt.Appendf(nil, "trident image %d %s %q", n, kind, name))
	g := gpt.GUID(sum[:16])
	g[6], g[8] = g[6]&0x0f|0x80, g[8]&0x3f|0x80
	return g
}

type bytesAt []byte

func (b bytesAt) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, b[min(off, int64(len(b))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// ends is a writer for the bytes at the two ends of a disk.
type ends struct {
	front, back bytesAt
	size        int64
}

func (e *ends) WriteAt(p []byte, off int64) (int, error) {
	if off < int64(len(e.front)) {
		return copy(e.front[off:], p), nil
	}
	return copy(e.back[off-(e.size-int64(len(e.back))):], p), nil
}

// assembled is the disk of Assemble. Bytes outside of its parts are zero.
type assembled struct {
	size  int64
	parts []assembledPart
}

type assembledPart struct {
	off, size int64
	content   io.ReaderAt
}

func (d *assembled) add(off, size int64, content io.ReaderAt) {
	d.parts = append(d.parts, assembledPart{off, size, content})
}

func (d *assembled) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(p)), d.size-off)))
	clear(p[:n])
	for _, part := range d.parts {
		from, to := max(off, part.off), min(off+int64(n), part.off+part.size)
		if from >= to {
			continue
		}
		if k, err := part.content.ReadAt(p[from-off:to-off], from-part.off); int64(k) < to-from {
			return int(from-off) + k, fmt.Errorf("read partition content at byte %d: %w", from-part.off+int64(k), err)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
