package selfservice

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/systemd"
)

// Paths of the unit that starts a rescuer at the next boot.
const (
	bootUnitPath  = rescue.BootUnitPath
	bootWantsPath = rescue.BootWantsPath
)

// rescuerRestart is how long systemd waits before it restarts a rescuer that was
// killed.
const rescuerRestart = time.Second

func rescueUnit(id string) string { return "trident-rescue-" + id + ".service" }

// onHost returns a path below the root folder as processes of the host see it.
func (s *Service) onHost(path string) string {
	rel, err := filepath.Rel(s.Root, path)
	if err != nil {
		return path
	}
	return "/" + rel
}

func (s *Service) writeBootUnit() error {
	if err := s.images.MakeFolder(filepath.Dir(bootWantsPath)); err != nil {
		return fmt.Errorf("write rescue unit: %w", err)
	}
	_, err := rescue.EnsureBootUnit(s.Root)
	return err
}

func (s *Service) removeBootUnit() error { return rescue.RemoveBootUnit(s.Root) }

// startRescuer starts the rescuer of the running version. A rescuer of the same
// trial that already runs goes on.
func (s *Service) startRescuer(ctx context.Context, r *opRun) error {
	err := s.Systemd.StartTransient(ctx, rescueUnit(r.ID), systemd.Transient{
		Description: "Trident rescuer: watches the trial of " + r.State.Version,
		Exec:        []string{s.onHost(filepath.Join(s.Root, rescue.Program)), "watch"},
		Restart:     rescuerRestart,
		Sandbox:     true,
	})
	if errkind.Of(err) == errkind.Exists {
		return nil
	}
	return err
}

// ensureRescuer starts a rescuer if neither the unit of the trial nor the boot
// unit runs.
func (s *Service) ensureRescuer(ctx context.Context, r *opRun) error {
	for _, unit := range []string{rescueUnit(r.ID), filepath.Base(bootUnitPath)} {
		u, err := s.Systemd.Unit(ctx, unit)
		if errkind.Of(err) == errkind.NotFound && err != nil {
			continue
		}
		if err != nil || u.Active != "inactive" && u.Active != "failed" {
			return err
		}
	}
	r.Logf(slog.LevelWarn, "the rescuer does not run: starting it again")
	if _, err := os.Lstat(filepath.Join(s.Root, rescue.Program)); err != nil {
		if err := s.touch("copy rescuer", s.copyRescuer); err != nil {
			return err
		}
	}
	return s.touch("start rescuer", func() error { return s.startRescuer(ctx, r) })
}

// trialOf returns the rescuer's record as far as the journal knows it.
func (s *Service) trialOf(r record, id string) rescue.Record {
	return rescue.Record{
		Operation: id, Previous: r.Previous, Target: rescue.Side{Version: r.Version, Link: s.targetLink(r)}, Deadline: int(r.Trial.Deadline / time.Second),
	}
}

// giveUp records in the rescuer's record that the target is given up, and the
// verdict if there is one. It logs a failure and goes on, because the journal says
// the same.
func (s *Service) giveUp(r *opRun, name string, verdict rescue.Verdict) {
	t := s.trialOf(r.State, r.ID)
	t.Reason, t.Verdict = s.failureReason(r.ID), verdict
	if err := s.touch(name, func() error { return s.trial.GiveUp(t) }); err != nil {
		r.Logf(slog.LevelWarn, "%s: %v", name, err)
	}
}

// copyRescuer copies the rescuer of the running version, not that of the
// candidate.
func (s *Service) copyRescuer() error {
	dst := filepath.Join(s.Root, rescue.Program)
	if err := os.MkdirAll(filepath.Dir(dst), 0o700); err != nil {
		return fmt.Errorf("copy the rescuer: %w", err)
	}
	return rescue.CopyTo(filepath.Join(s.Root, extension.OwnRescuer), dst)
}

func (s *Service) journal(ctx context.Context, since time.Time, limit int, units ...string) ([]byte, error) {
	return systemd.JournalTail(ctx, s.Tools, units, since, limit)
}

// blockFailed blocks a version that failed on this host, so that Trident does not
// try it again by itself. A version that the caller gave up, or whose failure
// nobody saw, is not blocked. The base is never blocked, because it is the last
// resort of a host.
func (s *Service) blockFailed(ctx context.Context, r *opRun) error {
	op, err := s.Runner.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	if op.Failure == nil || op.Failure.Kind != errkind.Unhealthy || r.State.Base {
		return nil
	}
	r.Logf(slog.LevelWarn, "trident %s is blocked on this host", r.State.Version)
	return s.touch("block", func() error {
		b := hoststate.Blocked{
			Version: r.State.Version, Reason: op.Failure.Message, Time: time.Now().UTC(), Operation: r.ID, Evidence: r.State.Evidence,
		}
		return operation.Insist(ctx, func() error { return s.Store.Block(ctx, b) })
	})
}

// blocked returns the entry of a blocked version, or nil.
func (s *Service) blocked(ctx context.Context, v string) (*hoststate.Blocked, error) {
	all, err := s.Store.Blocked(ctx)
	if err != nil {
		return nil, fmt.Errorf("read blocked versions: %w", err)
	}
	for _, b := range all {
		if b.Version == v {
			return &b, nil
		}
	}
	return nil, nil
}

// Unblock allows Trident to try a version again that failed on this host. It fails
// with NotFound if the version is not blocked.
func (s *Service) Unblock(ctx context.Context, v string) error {
	b, err := s.blocked(ctx, v)
	if err != nil {
		return err
	}
	if b == nil {
		return errkind.WithHint(errkind.Errorf(errkind.NotFound, "unblock trident: version %.80q is not blocked", v),
			"list the blocked versions with: trident self status")
	}
	if err := s.Store.Unblock(ctx, v); err != nil {
		return fmt.Errorf("unblock trident %s: %w", v, err)
	}
	return nil
}

// IsOnTrial reports whether a version of Trident is on trial on this host, so that
// a rescuer watches tridentd.
func (s *Service) IsOnTrial() bool {
	r, err := s.trial.Read()
	return err == nil && r.Verdict == ""
}
