package extension

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/fetch/blocks"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// relatives returns the images of current that src is probably a newer version of: at its path,
// or with the name that the name of its file begins with.
func (s *Store) relatives(src Source, current Generation) (out []blocks.Old) {
	u, err := url.Parse(src.URL)
	if err != nil {
		return nil
	}
	for _, e := range current {
		if e.Class != src.Class || e.Path != src.Path && (src.Path != "" || !strings.HasPrefix(path.Base(u.Path), e.Name())) {
			continue
		}
		if p, ok, err := s.placeOf(e, 0); err == nil && ok {
			file := p.image()
			if e.Regular {
				file = p.file
			}
			out = append(out, blocks.Old{Name: e.Name(), Path: file})
		}
	}
	return out
}

// fetchImage fetches an image and publishes it in the store after all checks. It takes blocks
// from the images old.
func (s *Store) fetchImage(ctx context.Context, src Source, file string, old []blocks.Old, progress Progress, log func(string)) (Image, error) {
	part := strings.TrimSuffix(file, ".raw") + ".part"
	from, err := fetch.Source{URL: src.URL}.OnHost(cmp.Or(s.Files, s.Root))
	if err != nil {
		return Image{}, err
	}
	if src.Budget != nil && from.Path == "" {
		from.Meter = src.Budget.meter
	}
	err = s.touch("fetch image", func() error {
		_, err := blocks.Download(ctx, blocks.Want{Source: from, Limits: fetch.Limits{MaxSize: maxImage}, Old: old}, part, progress, log)
		return err
	})
	if err != nil {
		return Image{}, err
	}
	var image Image
	v, err := s.verify(ctx, part, src.SHA384)
	if err == nil {
		defer v.Close()
		image, err = s.read(ctx, v, src)
	}
	if err == nil {
		err = v.unchanged()
	}
	if err != nil {
		if ctx.Err() != nil {
			return Image{}, err
		}
		return Image{}, errors.Join(err, s.touch("discard image", func() error { return fetch.Remove(part) }))
	}
	return image, s.touch("publish image", func() error {
		if err := os.Rename(part, file); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
		if err := atomicfile.SyncDir(filepath.Dir(file)); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
		if state, err := regfile.StateOf(v.File); err == nil { // the rename has changed it
			s.intact.Store(src.SHA384, state)
		}
		return fetch.Remove(part) // its side file
	})
}
