package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// A Partial is the part file of a [Source], open to be filled at any place. No other fetch can
// open it meanwhile. It keeps the bytes that earlier fetches left, right or wrong: the holder
// judges them.
type Partial struct {
	part    *part
	want    string
	isFresh bool
}

// OpenPartial opens the part file path of src, and makes it if it does not exist. If an earlier
// fetch of src has completed it, OpenPartial returns the result and no Partial.
func OpenPartial(ctx context.Context, src Source, path string) (*Partial, *Result, error) {
	d := download{src: src}
	identity, err := d.identify(path)
	if err != nil {
		return nil, nil, err
	}
	p, err := lockPart(path, identity, checkpoint, func(string) error { return nil })
	if err != nil {
		return nil, nil, d.explain(ctx, err)
	}
	r := &Ranges{name: d.name}
	if p.rec.Complete {
		if result, err := p.finished(ctx, src.SHA256); err != nil || result != nil {
			return nil, result, errors.Join(r.explain(ctx, err), p.file.Close())
		}
	}
	fi, err := p.file.Stat()
	if err != nil {
		return nil, nil, errors.Join(d.explain(ctx, err), p.file.Close())
	}
	return &Partial{p, src.SHA256, fi.Size() == 0}, nil, nil
}

// finished returns the result of a part that is complete, or nil if it is not whole any more.
func (p *part) finished(ctx context.Context, want string) (*Result, error) {
	whole, err := p.rehash(ctx)
	if err != nil || !whole {
		return nil, err
	}
	p.size = p.rec.Size
	result, err := p.finish(want)
	if err != nil {
		return nil, err
	}
	return &result, nil
}

// File returns the file. Close closes it.
func (p *Partial) File() *os.File { return p.part.file }

// Finish reads all bytes of the file, writes them to disk and records that they are the whole
// content: then [Download] of the same source returns them without a request. It fails with
// kind Corrupt, and discards the bytes, if the source has an announced SHA-256 and they do not
// have it.
func (p *Partial) Finish(ctx context.Context) (Result, error) {
	fi, err := p.part.file.Stat()
	if err != nil {
		return Result{}, fmt.Errorf("read part file: %w", err)
	}
	p.part.rec = record{Source: p.part.rec.Source, Size: fi.Size()}
	p.part.size = fi.Size()
	p.part.hash.Reset()
	r := &contextReader{ctx, io.NewSectionReader(p.part.file, 0, p.part.size)}
	switch n, err := io.CopyBuffer(p.part.hash, r, make([]byte, bufferSize)); {
	case err != nil:
		return Result{}, fmt.Errorf("read part file %s: %w", p.part.path, err)
	case n != p.part.size:
		return Result{}, errkind.Errorf(errkind.Corrupt, "read part file %s: another process changed it", p.part.path)
	}
	return p.part.finish(p.want)
}

// Close writes the bytes to disk and closes the file.
func (p *Partial) Close() error { return errors.Join(p.part.file.Sync(), p.part.file.Close()) }

// IsFresh reports whether the file had no bytes when it was opened.
func (p *Partial) IsFresh() bool { return p.isFresh }

// Resize makes the file size bytes long. It fails with kind NoSpace if the disk has no space
// for those that the file lacks.
func (p *Partial) Resize(size int64) error {
	dir := filepath.Dir(p.part.path)
	var st unix.Stat_t
	if err := unix.Fstat(int(p.part.file.Fd()), &st); err != nil {
		return fmt.Errorf("read part file: %w", err)
	}
	free, err := freeSpace(dir)
	if err != nil {
		return err
	}
	if need := size - st.Blocks*512; need > free {
		return errkind.WithHint(errkind.Errorf(errkind.NoSpace, "%d more bytes are needed in %s, %d are free", need, dir, free), spaceHint)
	}
	if err := p.part.file.Truncate(size); err != nil {
		return spaceError(fmt.Errorf("make part file: %w", err), size)
	}
	return nil
}
