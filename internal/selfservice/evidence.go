package selfservice

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
)

// Names in the store's folder besides the images.
const (
	probeDir    = "probe"
	evidenceDir = "evidence"
)

// evidenceKept is the number of failures whose evidence stays in the store.
const evidenceKept = 10

// journalDepth is the number of operations in the journal that pruneEvidence reads.
const journalDepth = 1000

// keepEvidence saves the journal, the reason and the record of a failed trial
// before they are lost.
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
		why := fmt.Appendf(nil, "operation: %s\nversion: %s\nroot hash: %s\nreason: %s\n", r.ID, r.State.Version, r.State.RootHash, s.failureReason(r.ID))
		err = errors.Join(err, atomicfile.Write(filepath.Join(dir, "reason.txt"), why, 0o600))
		trial, rerr := s.trial.Trial(r.ID)
		if rerr == nil {
			var text []byte
			if text, rerr = json.MarshalIndent(trial, "", "  "); rerr == nil {
				rerr = atomicfile.Write(filepath.Join(dir, "rescue.json"), append(text, '\n'), 0o600)
			}
		} else if errors.Is(rerr, rescue.ErrNoTrial) {
			rerr = nil
		}
		return errors.Join(err, rerr, sweepEvidence(dir))
	})
}

// sweepEvidence deletes temporary files from before a power cut.
func sweepEvidence(dir string) error {
	var errs []error
	for _, name := range []string{"journal.txt", "reason.txt", "rescue.json"} {
		errs = append(errs, atomicfile.Sweep(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// pruneEvidence deletes all but the newest folders of evidence. The journal says which
// are the newest, because the name of a folder begins with the time of a clock that may
// have been set back since. A folder of an operation that the journal has forgotten is
// older than all others.
func (s *Service) pruneEvidence() error {
	dir := filepath.Join(s.dir, evidenceDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) <= evidenceKept {
		return nil
	}
	ops, lerr := s.Runner.List(context.Background(), journalDepth, false)
	if err := errors.Join(err, lerr); err != nil {
		return fmt.Errorf("prune evidence: %w", err)
	}
	age := func(e fs.DirEntry) int { // 0 is the newest
		if i := slices.IndexFunc(ops, func(op operation.Operation) bool { return op.ID == e.Name() }); i >= 0 {
			return i
		}
		return len(ops)
	}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(age(b), age(a)) })
	var errs []error
	for _, e := range entries[:len(entries)-evidenceKept] {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}
