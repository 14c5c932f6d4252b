package extension

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/fetch/blocks"
)

// Budget bounds how many bytes Stage receives over the network for several sources together,
// over restarts too. A nil Budget has no bound.
type Budget struct{ meter *fetch.Meter }

// OpenBudget returns a budget of allowed bytes. It remembers the received bytes in a file beside
// the path name, whose folder must exist, as fetch.OpenMeter does. The caller closes it.
func OpenBudget(name string, allowed int64) (*Budget, error) {
	meter, err := fetch.OpenMeter(name, allowed)
	if err != nil {
		return nil, err
	}
	return &Budget{meter}, nil
}

// Close makes the file of b exact.
func (b *Budget) Close() error {
	if b == nil {
		return nil
	}
	return b.meter.Close()
}

// Agree fails with kind TooLarge if the budget of the sources does not suffice for those that the
// store lacks, before it receives any of their content. It asks the servers for the sizes. For an
// image with a relative among the current extensions it counts only what Stage needs before it
// knows which blocks to fetch, and for one whose fetch has begun, or whose size the server
// does not say, nothing: Stage compares the rest with the budget when it knows it.
//
// All sources have the budget of the first one. Agree does nothing without a budget.
func (s *Store) Agree(ctx context.Context, sources []Source, current Generation) error {
	if len(sources) == 0 || sources[0].Budget == nil {
		return nil
	}
	left, limited := sources[0].Budget.meter.Left()
	if !limited {
		return nil
	}
	var least, whole int64
	missing := 0
	for _, src := range sources {
		size, err := s.announced(ctx, src, current)
		if err != nil {
			return err
		}
		if size == 0 {
			continue
		}
		missing++
		whole += size
		if len(s.relatives(src, current)) > 0 {
			size = min(size, blocks.OutlineCost(size))
		}
		least += size
	}
	if least <= left {
		return nil
	}
	ways := fmt.Sprintf("the whole images need %d", whole)
	if least < whole {
		ways = fmt.Sprintf("they need at least %d if this host has most of their blocks; %s", least, ways)
	}
	err := errkind.Errorf(errkind.TooLarge, "fetch the %d extensions that this host lacks: %d bytes are left of the data budget: %s", missing, left, ways)
	return errkind.WithHint(err, "Raise internalParams.extensionDataBudget, or serve the images from a place that is not metered.")
}

// announced returns the size of the image of a source that Stage would have to fetch from a
// server from its first byte on; 0 if it would not, and if the server does not say it.
func (s *Store) announced(ctx context.Context, src Source, current Generation) (int64, error) {
	src.SHA384 = strings.ToLower(src.SHA384)
	if err := checkSource(src); err != nil {
		return 0, err
	}
	for _, e := range current {
		if e.Class == src.Class && e.SHA384 == src.SHA384 {
			return 0, nil
		}
	}
	for _, suffix := range []string{".raw", ".part"} {
		_, err := os.Lstat(filepath.Join(s.Root, storeDir, src.SHA384+suffix))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	from, err := fetch.Source{URL: src.URL}.OnHost(cmp.Or(s.Files, s.Root))
	if err != nil || from.Path != "" {
		return 0, err
	}
	in, err := fetch.OpenRanges(ctx, from, fetch.Pin{}, fetch.Limits{MaxSize: maxImage, Attempts: 1}, src.Budget.meter, nil)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if kind := errkind.Of(err); kind == errkind.TooLarge {
		return 0, err
	}
	if err != nil { // Stage meets the error too, and tries more often
		return 0, nil
	}
	return in.Size(), in.Close()
}
