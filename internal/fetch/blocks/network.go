package blocks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/patch"
)

// ranges is the server of the new image.
type ranges struct{ *fetch.Ranges }

func (r ranges) name() string { return r.Name() }

func (r ranges) bring(ctx context.Context, w *work) error {
	partial := map[int64][]byte{} // the beginning of a block, by the place of the next byte
	return r.ReadSpans(ctx, w.spans(), func(off int64, p []byte) error {
		n := int64(len(p))
		block := partial[off]
		delete(partial, off)
		for at := off - int64(len(block)); len(p) > 0; at += blockSize {
			take := min(blockSize-len(block), len(p))
			block, p = append(block, p[:take]...), p[take:]
			if len(block) < blockSize {
				partial[at+int64(len(block))] = block
				break
			}
			i := (at - w.data) / blockSize
			ok, err := w.put(i, block)
			if err != nil {
				return err
			}
			if !ok {
				return errkind.WithHint(errkind.Errorf(errkind.Corrupt, "fetch %s: the server sent other bytes for block %d than the hash tree of the image has", r.Name(), i),
					"The file at the server is damaged, or a proxy alters it. Try again later, or from another server.")
			}
			block = block[:0]
		}
		return w.received(n)
	})
}

const (
	// maxMemory bounds the two images that a patch has in memory, in bytes.
	maxMemory = 1 << 30
	// patience is after how many blocks that are not in the tree a patch is given up, if it
	// has brought no more than that.
	patience = 64
)

// patched is a patch, with the image on this host that it is for.
type patched struct {
	fetch.Patch
	job  *job
	old  Old
	part string // the file of the patch
}

// cheapestPatch returns the smallest patch for an image of this host, or nil.
func (j *job) cheapestPatch() *patched {
	var best *patched
	for _, p := range j.want.Source.Patches {
		for _, o := range j.want.Old {
			if p.From == o.Name && p.Size > 0 && (best == nil || p.Size < best.Size) {
				best = &patched{p, j, o, fetch.PatchPart(j.part)}
			}
		}
	}
	return best
}

func (p *patched) name() string { return "the patch from " + p.From }

// cost returns how many bytes of the patch are still to come.
func (p *patched) cost() int64 {
	if info, err := os.Stat(p.part); err == nil {
		return max(0, p.Size-info.Size())
	}
	return p.Size
}

// bring fetches the patch, and makes the image with it. The file of the patch stays, also that
// of a wrong one, so that no later call fetches it again.
func (p *patched) bring(ctx context.Context, w *work) error {
	size := p.job.remote.Size()
	old, err := p.readOld(size)
	if err != nil {
		return err
	}
	src := fetch.Source{
		URL: p.URL, SHA256: p.SHA256, Size: p.Patch.Size,
		Login: p.job.want.Source.Login, Roots: p.job.want.Source.Roots, Meter: p.job.want.Source.Meter,
	}
	lim := p.job.want.Limits
	lim.MaxSize = p.Patch.Size
	if _, err := fetch.Download(ctx, src, p.part, lim, nil, p.job.log); err != nil {
		return err
	}
	f, err := regfile.Open(p.part)
	if err != nil {
		return hostError{err}
	}
	defer f.Close()
	defer debug.FreeOSMemory() // of two images, in a daemon that is small otherwise
	return patch.Apply(ctx, old, f, size, &judge{w: w})
}

func (p *patched) readOld(size int64) ([]byte, error) {
	info, err := os.Stat(p.old.Path)
	if err != nil {
		return nil, err
	}
	if info.Size()+size > maxMemory {
		return nil, errkind.Errorf(errkind.TooLarge, "both images have %d bytes, a patch is for at most %d", info.Size()+size, int64(maxMemory))
	}
	return regfile.ReadFile(p.old.Path, info.Size())
}

// judge gets a whole image and puts its blocks. It fails if the image is another one.
type judge struct {
	w          *work
	off        int64 // in the image
	block      []byte
	good, lost int64
}

func (g *judge) Write(p []byte) (n int, err error) {
	n = len(p)
	if skip := min(max(0, g.w.data-g.off), int64(len(p))); skip > 0 {
		g.off, p = g.off+skip, p[skip:]
	}
	for len(p) > 0 {
		i := (g.off - int64(len(g.block)) - g.w.data) / blockSize
		if i >= g.w.tree.Blocks() {
			return n, nil
		}
		take := min(blockSize-len(g.block), len(p))
		g.block, g.off, p = append(g.block, p[:take]...), g.off+int64(take), p[take:]
		if len(g.block) < blockSize {
			return n, nil
		}
		ok, err := g.w.put(i, g.block)
		if err != nil {
			return 0, err
		}
		g.block = g.block[:0]
		if ok {
			g.good++
		} else if g.lost++; g.lost > patience && g.lost > g.good {
			return 0, fmt.Errorf("the patch is for another base image or makes another image: of %d blocks %d are not in the hash tree: %w",
				g.good+g.lost, g.lost, errkind.With(errkind.Corrupt, errors.New("wrong patch")))
		}
	}
	return n, nil
}
