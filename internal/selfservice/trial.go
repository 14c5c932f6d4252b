package selfservice

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/systemd"
)

// The unit by which a rescuer takes up the trial again after a power cut. It
// lies in /etc and runs a copy in /var: both are there whatever is merged.
const (
	bootUnitPath  = "etc/systemd/system/trident-rescue.service"
	bootWantsPath = "etc/systemd/system/multi-user.target.wants/trident-rescue.service"
	bootUnit      = `[Unit]
Description=Trident rescuer: judges an unfinished trial after a reboot
After=tridentd.socket systemd-sysext.service
ConditionPathExists=/` + rescue.Dir + `/rescue.json

[Service]
ExecStart=/` + rescue.Dir + "/" + rescuerDir + "/" + rescuerName + ` watch

[Install]
WantedBy=multi-user.target
`
)

func rescueUnit(id string) string { return "trident-rescue-" + id + ".service" }

// onHost is a path below the root folder as the host's own processes see it.
func (s *Service) onHost(path string) string {
	rel, err := filepath.Rel(s.Root, path)
	if err != nil {
		return path
	}
	return "/" + rel
}

func (s *Service) writeBootUnit() error {
	unit, wants := filepath.Join(s.Root, bootUnitPath), filepath.Join(s.Root, bootWantsPath)
	if err := s.makeFolder(filepath.Dir(bootWantsPath)); err != nil {
		return fmt.Errorf("write rescue unit: %w", err)
	}
	if err := atomicfile.Write(unit, []byte(bootUnit), 0o644); err != nil {
		return err
	}
	return atomicfile.Symlink("../"+filepath.Base(unit), wants)
}

func (s *Service) removeBootUnit() error {
	return errors.Join(
		atomicfile.Remove(filepath.Join(s.Root, bootWantsPath)), atomicfile.Remove(filepath.Join(s.Root, bootUnitPath)))
}

// copyRescuer takes today's rescuer, not the candidate's.
func (s *Service) copyRescuer(dst string) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o700); err != nil {
		return fmt.Errorf("copy the rescuer: %w", err)
	}
	return rescue.CopyTo(filepath.Join(s.Root, extension.OwnRescuer), dst)
}

// keepEvidence gathers what may tell why a version failed, before it is gone.
func (s *Service) keepEvidence(ctx context.Context, r *opRun) error {
	if r.State.Evidence == "" {
		r.State.Evidence = filepath.Join("/", rescue.Dir, evidenceDir, r.ID)
		if err := r.Save(ctx); err != nil {
			return err
		}
	}
	return s.touch("keep evidence", func() error {
		dir := filepath.Join(s.Root, r.State.Evidence)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		tail, jerr := s.journal(ctx, r.State.ArmedAt, 1<<20, daemonUnit, sysextUnit, rescueUnit(r.ID), filepath.Base(bootUnitPath))
		if jerr != nil {
			tail = fmt.Appendf(tail, "\nread journal: %v\n", jerr)
		}
		err := atomicfile.Write(filepath.Join(dir, "journal.txt"), tail, 0o600)
		why := fmt.Appendf(nil, "operation: %s\nversion: %s\nroot hash: %s\nreason: %s\n", r.ID, r.State.Version, r.State.RootHash, s.reason(r.ID))
		err = errors.Join(err, atomicfile.Write(filepath.Join(dir, "reason.txt"), why, 0o600))
		record, rerr := os.ReadFile(filepath.Join(s.dir, "rescue.json"))
		if rerr == nil {
			rerr = atomicfile.Write(filepath.Join(dir, "rescue.json"), record, 0o600)
		} else if errors.Is(rerr, fs.ErrNotExist) {
			rerr = nil
		}
		return errors.Join(err, rerr, sweepEvidence(dir))
	})
}

// sweepEvidence deletes what a power cut left of gathering it.
func sweepEvidence(dir string) error {
	var errs []error
	for _, name := range []string{"journal.txt", "reason.txt", "rescue.json"} {
		errs = append(errs, atomicfile.Sweep(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

func (s *Service) journal(ctx context.Context, since time.Time, limit int, units ...string) ([]byte, error) {
	return systemd.JournalTail(ctx, s.Tools, units, since, limit)
}

// blockFailed sees to it that a version that failed here is not tried again by
// itself. One that the caller gave up did not fail.
func (s *Service) blockFailed(ctx context.Context, r *opRun) error {
	op, err := s.Runner.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	if op.Failure == nil || op.Failure.Kind != errkind.Unhealthy {
		return nil
	}
	r.Logf(slog.LevelWarn, "trident %s is blocked on this host: %s", r.State.Version, op.Failure.Message)
	return s.touch("block", func() error {
		b := hoststate.Blocked{
			Version: r.State.Version, Reason: op.Failure.Message, Time: time.Now().UTC(), Operation: r.ID, Evidence: r.State.Evidence,
		}
		return operation.Insist(ctx, func() error { return s.Store.Block(ctx, b) })
	})
}

// blocked returns why a version is blocked, or nil.
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

// Unblock lets a version that failed on this host be tried again.
func (s *Service) Unblock(ctx context.Context, v string) error {
	b, err := s.blocked(ctx, v)
	if err != nil {
		return err
	}
	if b == nil {
		return errkind.WithHint(errkind.Errorf(errkind.NotFound, "unblock trident: version %.80q is not blocked", v),
			"see what is with: trident self status")
	}
	if err := s.Store.Unblock(ctx, v); err != nil {
		return fmt.Errorf("unblock trident %s: %w", v, err)
	}
	return nil
}
