package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/trident-project/trident/internal/servicing/change"
)

// withEtc calls write, which changes the files names. If one of them is in /etc and
// confexts are merged over it, withEtc unmerges the confexts meanwhile, because write has
// to change the /etc below them. If the daemon ends in between, the step merges them when
// it runs again, or the next boot does.
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
		r.Logf(slog.LevelInfo, "unmerging confexts while files in /etc change")
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
