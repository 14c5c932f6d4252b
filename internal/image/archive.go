package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
)

const (
	metadataName = "metadata.json"
	markerName   = "cosi-marker"

	maxPath    = 512      // bytes
	maxEntries = 4096     // of the archive
	maxScan    = 64 << 20 // bytes that scan reads to find all headers
	scanChunk  = 32 << 10 // bytes of one request for headers
	endBlocks  = 1024     // bytes of zeros at the end of an archive
)

// entry is a file in the archive.
type entry struct {
	name      string // without ./
	raw       string // the name in the archive
	off, size int64  // bytes
	plain     bool   // a regular file that is not sparse
}

// archive is the list of the files of a tar archive.
type archive struct {
	entries []entry
	byName  map[string]int // index in entries
	ended   bool           // two blocks of zeros are at the end
}

// entryName returns a path without ./, with which some tools begin all paths.
func entryName(s string) string {
	for strings.HasPrefix(s, "./") {
		s = s[2:]
	}
	return s
}

// scan lists the files of the archive; it reads the headers only. It calls found with each
// file at once, so that a wrong image fails at its metadata, before scan reads more of it.
func scan(ctx context.Context, src *fetch.Ranges, found func(entry) error) (*archive, error) {
	w := &window{ctx: ctx, src: src}
	r := tar.NewReader(w)
	a := &archive{byName: map[string]int{}}
	behind := int64(0) // offset of the end of the last entry
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			a.ended = w.pos-behind >= endBlocks
			return a, nil
		}
		if err != nil {
			if w.err != nil {
				return nil, w.err
			}
			return nil, corrupt("the archive cannot be read at byte %d: %w", w.pos, err)
		}
		if len(a.entries) >= maxEntries {
			return nil, errkind.Errorf(errkind.TooLarge, "the archive has more than %d entries", maxEntries)
		}
		e := entry{name: entryName(h.Name), raw: h.Name, off: w.pos, size: h.Size, plain: h.Typeflag == tar.TypeReg && !sparse(h)}
		behind = e.off + (e.size+511)/512*512
		if e.plain && e.size > src.Size()-e.off {
			return nil, corrupt("the archive is cut short: %.128q ends at byte %d, and the file has %d", e.name, e.off+e.size, src.Size())
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if _, twice := a.byName[e.name]; twice {
			return nil, corrupt("the archive has %.128q twice", e.name)
		}
		a.byName[e.name] = len(a.entries)
		a.entries = append(a.entries, e)
		if err := found(e); err != nil {
			return nil, err
		}
	}
}

func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// find returns the regular file name. It fails if the archive does not have it.
func (a *archive) find(name string) (entry, error) {
	i, ok := a.byName[name]
	if !ok {
		return entry{}, corrupt("the archive has no file %.128q", name)
	}
	if e := a.entries[i]; e.plain {
		return e, nil
	}
	return entry{}, corrupt("%.128q in the archive is not a regular file", name)
}

// window reads the source in chunks, of which it keeps the last. A seek reads nothing, so
// the tar reader can skip content.
type window struct {
	ctx   context.Context
	src   *fetch.Ranges
	pos   int64
	start int64 // offset of buf
	buf   []byte
	spent int64 // bytes read
	err   error // of the source
}

func (w *window) Read(p []byte) (int, error) {
	if w.pos >= w.src.Size() {
		return 0, io.EOF
	}
	if w.pos < w.start || w.pos >= w.start+int64(len(w.buf)) {
		if err := w.fill(); err != nil {
			w.err = err
			return 0, err
		}
	}
	n := copy(p, w.buf[w.pos-w.start:])
	w.pos += int64(n)
	return n, nil
}

func (w *window) fill() error {
	if w.spent >= maxScan {
		return errkind.Errorf(errkind.TooLarge, "the headers of the archive have more than %d bytes", int64(maxScan))
	}
	buf := make([]byte, min(scanChunk, w.src.Size()-w.pos))
	n, err := w.src.ReadAt(w.ctx, buf, w.pos)
	if err != nil {
		return fmt.Errorf("read the archive's headers: %w", err)
	}
	w.start, w.buf, w.spent = w.pos, buf[:n], w.spent+int64(n)
	return nil
}

func (w *window) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += w.pos
	case io.SeekEnd:
		offset += w.src.Size()
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	w.pos = offset
	return offset, nil
}
