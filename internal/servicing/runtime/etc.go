package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/trident-project/trident/internal/servicing/change"
)

// withEtc changes files. Where they are in /etc, and confexts are merged over it,
// these are unmerged for that time: the change has to reach what is below them, or
// it would be gone with them. Whatever comes in between, they are merged again by
// this step, when it is done again, or by the next boot.
func (s *Service) withEtc(ctx context.Context, r *opRun, names []string, write func() error) error {
	closed := false
	if slices.ContainsFunc(names, change.InEtc) {
		var err error
		if closed, err = s.EtcIsReadOnly(s.Root); err != nil {
			return err
		}
	}
	if !closed && !r.State.EtcOpened {
		return write()
	}
	if closed {
		r.State.EtcOpened = true
		if err := r.Save(ctx); err != nil {
			return err
		}
		r.Logf(slog.LevelInfo, "confexts are unmerged for a moment: files in /etc change")
		if err := s.UnmergeConfexts(ctx); err != nil {
			return fmt.Errorf("unmerge confexts: %w", err)
		}
	}
	err := write()
	if merr := s.MergeConfexts(ctx); merr != nil {
		return errors.Join(err, fmt.Errorf("merge confexts again: %w", merr))
	}
	r.State.EtcOpened = false
	return err
}
