// Package isopatch puts files into a finished ISO image, without a new build of the image.
//
// The image carries placeholders: files that are stored as they are, not compressed, and that
// begin with a magic text and the path of the file. The package finds them in the raw bytes
// and overwrites them. Magic text, layout and padding are those of upstream's isopatch
// (tools/pkg/isopatcher), so that each tool patches the images of the other.
package isopatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
)

// Magic begins each placeholder. After it come the path between two colons, and characters #
// up to a line feed, all of which the content replaces.
const Magic = `#8505c8ab802dd717290331acd0592804c4e413b030150c53f5018ac998b7831d`

// MaxPlaceholder is the largest placeholder, in bytes, and so the largest content.
const MaxPlaceholder = 1 << 20

const (
	maxPath         = 4096    // bytes
	window          = 4 << 20 // bytes of the image that are searched at a time
	maxPlaceholders = 1000
)

// A Patch is a file to put into an image.
type Patch struct {
	Path    string // the path in the placeholder
	Content []byte
}

// A Placeholder is a place in an image.
type Placeholder struct {
	Path   string
	Offset int64
	Size   int64 // bytes, with the line feed at the end
}

// Find returns the placeholders of an image of size bytes, in their order. It holds at most a
// few MiB of the image in memory. It ignores a magic text that
// no path or no line feed follows, and fails with TooLarge if there are more than 1000.
func Find(ctx context.Context, image io.ReaderAt, size int64) ([]Placeholder, error) {
	var found []Placeholder
	var seen int
	var end int64 // of the last placeholder: a magic text inside of it is its content
	buffer := make([]byte, window+len(Magic)-1)
	for at := int64(0); at < size; at += window {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		part := buffer[:min(int64(len(buffer)), size-at)]
		if n, err := image.ReadAt(part, at); n < len(part) {
			return nil, fmt.Errorf("read the image at byte %d: %w", at+int64(n), whole(err))
		}
		for i := 0; ; {
			next := bytes.Index(part[i:], []byte(Magic))
			if next < 0 {
				break
			}
			offset := at + int64(i+next)
			i += next + len(Magic)
			if offset < end {
				continue
			}
			if seen++; seen > maxPlaceholders {
				return nil, errkind.Errorf(errkind.TooLarge, "the image has more than %d placeholders", maxPlaceholders)
			}
			p, ok, err := placeholderAt(image, offset, size)
			if err != nil {
				return nil, err
			}
			if ok {
				found, end = append(found, p), p.Offset+p.Size
			}
		}
	}
	return found, nil
}

// whole returns err, or the error of a file that is shorter than it was.
func whole(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// placeholderAt reads the placeholder whose magic text is at offset.
func placeholderAt(image io.ReaderAt, offset, size int64) (Placeholder, bool, error) {
	text := make([]byte, min(MaxPlaceholder, size-offset))
	if n, err := image.ReadAt(text, offset); n < len(text) {
		return Placeholder{}, false, fmt.Errorf("read the image at byte %d: %w", offset, whole(err))
	}
	end := bytes.IndexByte(text, '\n')
	if end < 0 {
		return Placeholder{}, false, nil
	}
	rest, ok := bytes.CutPrefix(text[len(Magic):end], []byte(":"))
	path, _, colon := bytes.Cut(rest, []byte(":"))
	if !ok || !colon || len(path) == 0 || len(path) > maxPath {
		return Placeholder{}, false, nil
	}
	return Placeholder{string(path), offset, int64(end) + 1}, true, nil
}

// A Plan says what to write into an image, and where.
type Plan struct {
	writes []write
}

// write is the new text of one placeholder, of its size.
type write struct {
	Placeholder
	text []byte
}

// Placeholders returns the placeholders that the plan overwrites.
func (p *Plan) Placeholders() []Placeholder {
	var out []Placeholder
	for _, w := range p.writes {
		out = append(out, w.Placeholder)
	}
	return out
}

// Prepare finds the place of each patch, and changes nothing. It fails with NotFound if the
// image has no placeholder for a path, with Invalid if it has two, or if two patches have one
// path, and with TooLarge if a content does not fit.
func Prepare(ctx context.Context, image io.ReaderAt, size int64, patches []Patch) (*Plan, error) {
	found, err := Find(ctx, image, size)
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	for i, patch := range patches {
		if slices.ContainsFunc(patches[:i], func(other Patch) bool { return other.Path == patch.Path }) {
			return nil, errkind.Errorf(errkind.Invalid, "%s is patched twice", patch.Path)
		}
		at, err := only(found, patch.Path)
		if err != nil {
			return nil, err
		}
		if int64(len(patch.Content)) > at.Size {
			return nil, errkind.Errorf(errkind.TooLarge, "%s has %d bytes, and its placeholder has room for %d", patch.Path, len(patch.Content), at.Size)
		}
		p.writes = append(p.writes, write{at, padded(patch.Content, int(at.Size))})
	}
	slices.SortFunc(p.writes, func(a, b write) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	return p, nil
}

// only returns the only placeholder of a path.
func only(found []Placeholder, path string) (Placeholder, error) {
	var at []Placeholder
	var others []string
	for _, p := range found {
		if p.Path == path {
			at = append(at, p)
		} else {
			others = append(others, p.Path)
		}
	}
	switch len(at) {
	case 1:
		return at[0], nil
	case 0:
		err := errkind.Errorf(errkind.NotFound, "the image has no placeholder for %s", path)
		if len(others) == 0 {
			return Placeholder{}, errkind.WithHint(err, "It has none at all: it is not an image that can be patched, or it was patched already.")
		}
		return Placeholder{}, errkind.WithHint(err, "It has placeholders for: %s", strings.Join(others, ", "))
	}
	return Placeholder{}, errkind.Errorf(errkind.Invalid, "the image has %d placeholders for %s, at bytes %d and %d", len(at), path, at[0].Offset, at[1].Offset)
}

// padded returns content with a line feed, characters # and a line feed, as far as there is
// room: a comment in YAML and in shell scripts.
func padded(content []byte, size int) []byte {
	out := slices.Clip(slices.Clone(content))
	if len(out) < size {
		out = append(out, '\n')
	}
	if rest := size - len(out); rest > 0 {
		out = append(out, strings.Repeat("#", rest-1)+"\n"...)
	}
	return out
}

// Copy writes the image with its patches to w.
func (p *Plan) Copy(ctx context.Context, w io.Writer, image io.ReaderAt, size int64) error {
	at := int64(0)
	through := func(end int64) error {
		n, err := io.Copy(w, interrupt.Reader(ctx, io.NewSectionReader(image, at, end-at)))
		if err == nil && n < end-at {
			err = fmt.Errorf("read the image at byte %d: %w", at+n, io.ErrUnexpectedEOF)
		}
		return err
	}
	for _, one := range p.writes {
		if err := through(one.Offset); err != nil {
			return err
		}
		if _, err := w.Write(one.text); err != nil {
			return err
		}
		at = one.Offset + one.Size
	}
	return through(size)
}

// Apply writes the patches into the image itself. After a failure some of them may be there.
func (p *Plan) Apply(image io.WriterAt) error {
	for _, one := range p.writes {
		if _, err := image.WriteAt(one.text, one.Offset); err != nil {
			return fmt.Errorf("write %s into the image: %w", one.Path, err)
		}
	}
	return nil
}
