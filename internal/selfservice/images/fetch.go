package images

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/fetch/blocks"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/trust"
)

// maxImage bounds an image of Trident, in bytes.
const maxImage = 1 << 30

// Fetch fetches an image into the file part as blocks.Download does, with the images of the
// store as providers of blocks. From a server that serves ranges it takes no data of an image
// that no certificate signs which this host trusts at the time at. A patch of src is for the
// image in the store that has its From as version.
//
// The image in part is not verified: OpenNew does that.
func (s *Store) Fetch(ctx context.Context, src fetch.Source, part string, at time.Time, progress func(done, total int64), log func(string)) error {
	want := blocks.Want{Source: src, Limits: fetch.Limits{MaxSize: maxImage}}
	if src.URL != "" {
		policy, err := trust.Load(s.Root)
		if err != nil {
			return err
		}
		want.Signer = func(root [32]byte, sig *ddi.Signature) (trust.Verified[[32]byte], error) {
			return policy.CheckSigner(root, sig, at)
		}
		if want.Old, err = s.providers(); err != nil {
			return err
		}
	}
	_, err := blocks.Download(ctx, want, part, progress, log)
	return err
}

// providers returns the images of the store: the active one, then the previous one, then the
// others.
func (s *Store) providers() ([]blocks.Old, error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b Image) int { return cmp.Compare(rank(a), rank(b)) })
	var out []blocks.Old
	for _, i := range list {
		out = append(out, blocks.Old{Name: i.Version, Path: s.Path(i.Version)})
	}
	return out, nil
}

func rank(i Image) int {
	switch {
	case i.Active:
		return 0
	case i.Previous:
		return 1
	}
	return 2
}
