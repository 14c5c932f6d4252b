package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
)

// keep copies the files that will change, so that an undo can restore them.
func (s *Service) keep(_ context.Context, r *opRun, w comparison) error {
	names := w.changed()
	if len(names) == 0 {
		return nil
	}
	kept := make([]osconfig.Kept, len(names))
	err := s.Touch("keep files", func() (err error) {
		if err := os.MkdirAll(s.WorkDir(r.ID), 0o700); err != nil {
			return err
		}
		for i, name := range names {
			if kept[i], err = osconfig.Keep(s.Root, name, s.keptFile(r.ID, i)); err != nil {
				return err
			}
		}
		return s.keepNetplan(r.ID, w)
	})
	if err != nil {
		return fmt.Errorf("copy the files that will change: %w", err)
	}
	r.State.Kept = kept
	return nil
}

func (s *Service) keptFile(id string, i int) string {
	return filepath.Join(s.WorkDir(id), "kept-"+strconv.Itoa(i))
}

// keepNetplan copies all files of netplan if the network changes: netplan finds in the
// copies which devices the previous network had.
func (s *Service) keepNetplan(id string, w comparison) error {
	if !w.change.Netplan {
		return nil
	}
	return errkind.WithName(s.CopyNetplan(s.netplanState(id)), errkind.NameBackupNetplanConfig)
}

func (s *Service) netplanState(id string) string { return filepath.Join(s.WorkDir(id), "netplan") }

func (s *Service) netplanTaken(id string) string {
	return filepath.Join(s.WorkDir(id), "netplan-taken-back")
}

func (s *Service) discardKept(_ context.Context, r *opRun) error {
	return s.Touch("discard copies", func() error { return os.RemoveAll(s.WorkDir(r.ID)) })
}

// writeFiles writes the additional files that are new or different, and removes those
// that only the previous configuration has.
func (s *Service) writeFiles(ctx context.Context, r *opRun, w comparison) error {
	if w.change.Files.Empty() {
		return nil
	}
	r.State.FilesBegun = true
	if err := r.Save(ctx); err != nil {
		return err
	}
	return s.withEtc(ctx, r, w.files(), func() error { return s.changeFiles(r, w) })
}

func (s *Service) changeFiles(r *opRun, w comparison) error {
	for _, f := range w.change.Files.Write {
		mode, err := s.ModeOf(f)
		if err != nil {
			return fmt.Errorf("write %s: %w", f.Destination, err)
		}
		err = s.Touch("write file", func() error {
			return osconfig.Write(s.Root, change.Absolute(f.Destination), mode, func(out io.Writer) error { return s.WriteContent(f, out) })
		})
		if err != nil {
			return errkind.WithName(err, errkind.NameWriteAdditionalFile)
		}
		r.Logf(slog.LevelInfo, "%s is written", f.Destination)
	}
	for _, f := range w.change.Files.Remove {
		err := s.Touch("remove file", func() error { return osconfig.Remove(s.Root, change.Absolute(f.Destination)) })
		if err != nil {
			return errkind.WithName(err, errkind.NameWriteAdditionalFile)
		}
		r.Logf(slog.LevelInfo, "%s is removed", f.Destination)
	}
	return nil
}

func (s *Service) restoreFiles(ctx context.Context, r *opRun, w comparison) error {
	if !r.State.FilesBegun {
		return nil
	}
	return s.restore(ctx, r, w.files())
}

// restore restores the kept state of the paths names. It restores as many as it can and
// returns the errors of the others.
func (s *Service) restore(ctx context.Context, r *opRun, names []string) error {
	return s.withEtc(ctx, r, names, func() error {
		var errs []error
		for i, k := range slices.Backward(r.State.Kept) {
			if slices.Contains(names, k.Name) {
				errs = append(errs, s.RestoreKept(r, k, s.keptFile(r.ID, i)))
			}
		}
		return errors.Join(errs...)
	})
}

// setUpNetwork writes the file of the network and has netplan apply it. If the
// configuration has no network any more, it removes the file and has netplan apply that.
func (s *Service) setUpNetwork(ctx context.Context, r *opRun, w comparison) error {
	if !w.change.Netplan {
		return nil
	}
	r.State.NetworkBegun = true
	if err := r.Save(ctx); err != nil {
		return err
	}
	n := w.asked.Spec().OS.Netplan
	err := s.withEtc(ctx, r, w.network(), func() error {
		return s.Touch("write network", func() error { return osconfig.WriteNetwork(s.Root, n) })
	})
	if err != nil {
		name := errkind.NameWriteNetplanConfig
		if n == nil {
			name = errkind.NameRemoveNetplanConfig
		}
		return errkind.WithName(err, name)
	}
	err = s.Touch("generate network", func() error { return s.GenerateNetplan(ctx) })
	if n == nil && errkind.Of(err) == errkind.Precondition {
		r.Logf(slog.LevelWarn, "the file of the network is removed, but the host has no netplan to apply that: %v", err)
		return nil
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("set up network: %w", err), errkind.NameGenerateNetplanConfig)
	}
	r.State.ApplyBegun = true
	if err := r.Save(ctx); err != nil {
		return err
	}
	err = s.Touch("apply network", func() error {
		return s.ApplyNetplan(ctx, "--state", s.netplanState(r.ID))
	})
	if err != nil {
		return errkind.WithName(fmt.Errorf("set up network: %w", err), errkind.NameApplyNetplanConfig)
	}
	r.Logf(slog.LevelInfo, "the network is set up")
	return nil
}

// restoreNetwork restores the files of the network and has netplan apply them. If netplan
// fails, restoreNetwork only logs that, so that the other steps are undone, too; the next
// boot applies the files.
func (s *Service) restoreNetwork(ctx context.Context, r *opRun) error {
	if !r.State.NetworkBegun {
		return nil
	}
	if err := s.restore(ctx, r, []string{osconfig.Netplan, osconfig.CloudInit}); err != nil {
		return err
	}
	err := s.Touch("generate network again", func() error { return s.GenerateNetplan(ctx) })
	if err == nil && r.State.ApplyBegun {
		err = s.Touch("apply network again", func() error {
			w, err := r.State.compare()
			if err != nil {
				return err
			}
			return s.ApplyFormerNetwork(ctx, r, s.netplanTaken(r.ID), w.asked.Spec().OS.Netplan)
		})
	}
	if err != nil && ctx.Err() == nil {
		r.Logf(slog.LevelError, "the network's files are restored, but could not be applied: %v", err)
		return nil
	}
	return err
}

// applyExtensions has systemd merge the new extensions. It verifies them once more first,
// because they may have been in the store for a while.
func (s *Service) applyExtensions(ctx context.Context, r *opRun) error {
	if r.State.Extensions.Empty() {
		return nil
	}
	change, err := s.Extensions.Verify(ctx, r.State.Extensions)
	if err == nil {
		err = s.Extensions.Apply(ctx, change)
	}
	if err != nil {
		return errkind.WithName(err, errkind.NameSetUpExtensionImages)
	}
	var names []string
	for _, e := range change.New {
		names = append(names, fmt.Sprintf("%s %s", e.Class, e.Name()))
	}
	r.Logf(slog.LevelInfo, "active extensions: %s", strings.Join(names, ", "))
	return nil
}

func (s *Service) undoExtensions(ctx context.Context, r *opRun) error {
	return s.Extensions.Undo(ctx, r.State.Extensions)
}
