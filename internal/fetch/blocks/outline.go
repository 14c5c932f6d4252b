package blocks

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/verity"
)

// The header of the partition table, with a checksum over all entries, and so over the root
// hash in their UUIDs (UEFI 2.10, table 5.5).
const tableHeader, tableHeaderSize = 512, 512

// outline reads everything of the image but its data, checks its signature, and writes it to
// the file.
func (j *job) outline(ctx context.Context, size int64) (*work, error) {
	if w, err := j.keptOutline(ctx, size); w != nil || err != nil {
		return w, err
	}
	if err := j.admitOutline(size); err != nil {
		return nil, err
	}
	m := &meta{ctx: ctx, r: j.remote, size: size}
	// Images are usually in the order data, hash tree, signature: then one request brings all.
	tail := min(OutlineCost(size)-gpt.OverheadFront+2*blockSize, max(gpt.OverheadBack, size-gpt.OverheadFront-1))
	if err := m.load(fetch.Span{Off: 0, Len: gpt.OverheadFront}, fetch.Span{Off: size - tail, Len: tail}); err != nil {
		return nil, err
	}
	image, tree, err := j.open(ctx, m, size)
	if err == nil {
		err = j.file.Resize(size)
	}
	if err != nil {
		return nil, err
	}
	w := newWork(j.file.File(), j.file.IsFresh(), image, tree)
	for _, p := range m.pieces {
		if err := w.writeOutside(p); err != nil {
			return nil, err
		}
	}
	return w, w.clear(image)
}

// keptOutline returns the outline that an interrupted fetch has left in the file, or nil if that
// is not the one of the image on the server.
func (j *job) keptOutline(ctx context.Context, size int64) (*work, error) {
	f := j.file.File()
	if info, err := f.Stat(); err != nil || info.Size() != size || j.file.IsFresh() {
		return nil, nil
	}
	image, tree, err := j.open(ctx, f, size)
	if err != nil {
		return nil, nil // another outline, or half of one: read it from the server
	}
	kept, now := make([]byte, tableHeaderSize), make([]byte, tableHeaderSize)
	if _, err := j.remote.ReadAt(ctx, now, tableHeader); err != nil {
		return nil, err
	}
	if _, err := f.ReadAt(kept, tableHeader); err != nil || !bytes.Equal(kept, now) {
		return nil, nil
	}
	w := newWork(f, false, image, tree)
	return w, w.clear(image)
}

// open reads the outline of an image, and returns the tree that a signature or the caller
// answers for.
func (j *job) open(ctx context.Context, r io.ReaderAt, size int64) (*ddi.Image, *verity.Tree, error) {
	image, err := ddi.OpenOutline(r, size)
	if err != nil {
		return nil, nil, j.mismatch(r, err)
	}
	root := image.RootHash()
	if j.want.Signer != nil {
		proof, err := j.want.Signer(root, image.Signature())
		if err != nil {
			return nil, nil, err
		}
		proven, ok := proof.Value()
		if !ok || proven != root {
			return nil, nil, errkind.Errorf(errkind.Untrusted, "the signature of the image was not checked")
		}
	}
	if m, ok := r.(*meta); ok { // one request instead of many
		if err := m.loadTree(image); err != nil {
			return nil, nil, err
		}
	}
	tree, err := image.Tree(ctx, root)
	if err != nil {
		return nil, nil, j.mismatch(r, err)
	}
	return image, tree, nil
}

// mismatch returns the error for an image that has not the form for blocks. Such an image may
// still be what a caller without a signer wants.
func (j *job) mismatch(r io.ReaderAt, err error) error {
	if m, ok := r.(*meta); ok && m.err != nil {
		return m.err
	}
	if j.want.Signer == nil {
		return unsuitable{err}
	}
	return fmt.Errorf("fetch %s: %w", j.want.Source, err)
}

// meta reads an image on a server, and remembers what it has read.
type meta struct {
	ctx    context.Context
	r      *fetch.Ranges
	size   int64
	pieces []piece
	err    error // of the network
}

type piece struct {
	off   int64
	bytes []byte
}

func (m *meta) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= m.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), m.size-off))
	i := slices.IndexFunc(m.pieces, func(q piece) bool {
		return q.off <= off && off+int64(n) <= q.off+int64(len(q.bytes))
	})
	if i < 0 {
		if err := m.load(fetch.Span{Off: off, Len: int64(n)}); err != nil {
			return 0, err
		}
		i = len(m.pieces) - 1
	}
	copy(p[:n], m.pieces[i].bytes[off-m.pieces[i].off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// load reads spans with as few requests as the server allows.
func (m *meta) load(spans ...fetch.Span) error {
	for _, s := range spans {
		if s.Off < 0 || s.Len < 0 || s.Off > m.size-s.Len {
			return unsuitable{errkind.Errorf(errkind.Corrupt, "the file has %d bytes, too few for an image", m.size)}
		}
		m.pieces = append(m.pieces, piece{s.Off, make([]byte, s.Len)})
	}
	m.err = m.r.ReadSpans(m.ctx, spans, func(off int64, p []byte) error {
		for _, q := range m.pieces[len(m.pieces)-len(spans):] {
			if q.off <= off && off < q.off+int64(len(q.bytes)) {
				copy(q.bytes[off-q.off:], p)
			}
		}
		return nil
	})
	return m.err
}

// loadTree reads the hash tree behind its superblock, in one request.
func (m *meta) loadTree(image *ddi.Image) error {
	off, size := image.Hash()
	sb, err := verity.ReadSuperblock(io.NewSectionReader(m, off, size))
	if err != nil || sb.HashSize() > size {
		return err
	}
	_, err = m.ReadAt(make([]byte, sb.HashSize()), off)
	return err
}

// writeOutside writes the bytes of p that are not in a block.
func (w *work) writeOutside(p piece) error {
	end := p.off + int64(len(p.bytes))
	after := w.data + w.tree.Blocks()*blockSize
	for _, part := range []fetch.Span{{Off: p.off, Len: min(end, w.data) - p.off}, {Off: max(p.off, after), Len: end - max(p.off, after)}} {
		if part.Len <= 0 {
			continue
		}
		if _, err := w.file.WriteAt(p.bytes[part.Off-p.off:][:part.Len], part.Off); err != nil {
			return spaceError(fmt.Errorf("write part file: %w", err))
		}
	}
	return nil
}
