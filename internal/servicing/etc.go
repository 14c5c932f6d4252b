package servicing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/osconfig"
)

const confextUnit = "systemd-confext.service"

// inEtc says whether a place is one that a merged confext makes read-only.
func inEtc(name string) bool { return strings.HasPrefix(absolute(name), "/etc/") }

// etcClosed says whether /etc is read-only because confexts are merged over it.
func etcClosed(root string) (bool, error) {
	names, err := extension.Confext.Merged(root)
	if err != nil || len(names) == 0 {
		return false, err
	}
	return errors.Is(osconfig.Check(root, "/etc/trident-is-here"), unix.EROFS), nil
}

// withEtc changes files. Where they are in /etc, and confexts are merged over it,
// these are unmerged for that time: the change has to reach what is below them, or
// it would be gone with them. Whatever comes in between, they are merged again by
// this step, when it is done again, or by the next boot.
func (s *Service) withEtc(ctx context.Context, r *opRun, names []string, change func() error) error {
	closed := false
	if slices.ContainsFunc(names, inEtc) {
		var err error
		if closed, err = s.etcClosed(s.Root); err != nil {
			return err
		}
	}
	if !closed && !r.State.EtcOpened {
		return change()
	}
	if closed {
		r.State.EtcOpened = true
		if err := r.Save(ctx); err != nil {
			return err
		}
		r.Logf(slog.LevelInfo, "confexts are unmerged for a moment: files in /etc change")
		err := s.touch("unmerge confexts", func() error { return s.Systemd.Stop(ctx, confextUnit) })
		if err != nil {
			return fmt.Errorf("unmerge confexts: %w", err)
		}
	}
	err := change()
	// Also when the operation is cancelled.
	merr := s.touch("merge confexts again", func() error { return s.Systemd.ReloadOrRestart(context.WithoutCancel(ctx), confextUnit) })
	if merr != nil {
		return errors.Join(err, fmt.Errorf("merge confexts again: %w", merr))
	}
	r.State.EtcOpened = false
	return err
}
