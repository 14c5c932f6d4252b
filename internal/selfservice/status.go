package selfservice

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/selfservice/images"
	"github.com/trident-project/trident/internal/trust"
)

// Status describes the running Trident, its origin, and the store.
type Status struct {
	Running       string // the version of this process
	FromExtension bool
	Base          string // "" on a host without a base
	Active        string // the version that the extension link points to; "" for no link
	Merged        bool   // systemd has merged the active version
	Verity        bool   // the kernel verifies the active version with dm-verity and its root hash
	// RollbackTarget is a version, "base", or "" if a rollback is impossible.
	RollbackTarget string
	Images         []Image
	Blocked        []Blocked
	Trusted        []trust.Certificate
	Operation      *operation.Operation // the pending operation; nil for none
	Last           *Entry               // the last settled operation on Trident itself
	PolicyEnforced bool
	// Faults lists the damaged files that self-servicing depends on. The other
	// fields leave out what could not be read.
	Faults []string
}

// Blocked is a version that failed on this host.
type Blocked struct {
	Version, Reason     string
	Time                time.Time
	Operation, Evidence string
}

// An Entry is one operation on Trident itself.
type Entry struct {
	Operation, Kind, From, To string
	SHA256                    string // that the caller wanted the image to have, "" for any
	Phase                     operation.Phase
	Failure                   *operation.Failure
	Start, End                time.Time // End is zero until the operation has settled
	Evidence                  string    // a folder on the host
}

// Status reads the host and the datastore; it caches nothing but the check of the
// images.
func (s *Service) Status(ctx context.Context) (Status, error) {
	st := Status{Running: s.Version}
	if err := s.statusOfHost(ctx, &st); err != nil {
		return st, fmt.Errorf("read status of trident: %w", err)
	}
	if err := s.statusOfRecords(ctx, &st); err != nil {
		return st, fmt.Errorf("read status of trident: %w", err)
	}
	return st, nil
}

// statusOfHost records a fault for what it cannot read and goes on: a person who
// reads the status often has to repair the host.
func (s *Service) statusOfHost(ctx context.Context, st *Status) error {
	var err error
	fault := func(err error) {
		if err != nil {
			st.Faults = append(st.Faults, err.Error())
		}
	}
	st.Base, err = rescue.BaseVersion(s.Root)
	fault(err)
	st.Active, _, err = rescue.LinkedVersion(s.Root)
	fault(err)
	merged, err := s.images.MergedVersion()
	fault(err)
	st.Merged = merged != "" && merged == st.Active
	st.FromExtension = merged != "" && merged == st.Running
	if st.Base == "" && merged == "" && len(st.Faults) > 0 {
		st.Base = st.Running // the running version is not an extension
	}
	st.Images, err = s.images.List()
	fault(err)
	for _, i := range st.Images {
		st.Verity = st.Verity || i.Active && st.Merged && s.verityActive(i)
	}
	back, err := s.images.RollbackTarget(ctx)
	if st.RollbackTarget = back.Version; err == nil && back.Base {
		st.RollbackTarget = "base"
	}
	if back.Note != "" {
		st.Faults = append(st.Faults, back.Note)
	}
	certs, faults := trust.Survey(s.Root)
	st.Trusted = certs
	for _, err := range faults {
		fault(err)
	}
	fault(extension.CheckOthers(s.Root))
	st.PolicyEnforced = s.policyEnforced(ctx)
	return ctx.Err()
}

// verityActive reports whether the kernel has a dm-verity device for an image of
// the store. systemd names the device after the root hash. While processes still
// hold a device of that name, from an earlier merge, systemd names the new one
// after its loop device.
func (s *Service) verityActive(i images.Image) bool {
	fsys := inroot.FS(s.Root)
	names, err := fs.Glob(fsys, "sys/block/dm-*/dm/name")
	if err != nil {
		return false
	}
	read := func(path string) string {
		text, err := fsys.ReadFile(path, 4096)
		if err != nil {
			return "" // the device is gone
		}
		return strings.TrimSpace(string(text))
	}
	for _, path := range names {
		of, ok := strings.CutSuffix(read(path), "-verity")
		if ok && of == i.RootHash {
			return true
		}
		if at := strings.LastIndex(of, "p"); ok && at > 0 && read("sys/block/"+of[:at]+"/loop/backing_file") == s.onHost(s.images.Path(i.Version)) {
			return true
		}
	}
	return false
}

func (s *Service) statusOfRecords(ctx context.Context, st *Status) error {
	blocked, err := s.Store.Blocked(ctx)
	if err != nil {
		return err
	}
	for _, b := range blocked {
		st.Blocked = append(st.Blocked, Blocked(b))
	}
	if id, busy := s.Runner.Active(); busy {
		op, err := s.Runner.Get(ctx, id)
		if err != nil {
			return err
		}
		st.Operation = &op
	}
	entries, err := s.History(ctx, historyDepth)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Phase.Settled() {
			st.Last = &e
			break
		}
	}
	return nil
}

// historyDepth is how many entries of the history are searched for the last
// settled operation.
const historyDepth = 20

// History lists at most limit operations on Trident itself, newest first.
func (s *Service) History(ctx context.Context, limit int) ([]Entry, error) {
	ops, err := s.Runner.List(ctx, 10*limit, false)
	if err != nil {
		return nil, fmt.Errorf("read history of trident: %w", err)
	}
	var out []Entry
	for _, op := range ops {
		if !strings.HasPrefix(op.Kind, "self-") {
			continue
		}
		if len(out) == limit {
			break
		}
		var r record
		if err := json.Unmarshal(op.State, &r); err != nil {
			return nil, fmt.Errorf("read history of trident: operation %s: %w", op.ID, err)
		}
		e := Entry{
			Operation: op.ID, Kind: op.Kind, From: r.From, To: r.Version, SHA256: r.Source.SHA256, Phase: op.Phase, Failure: op.Failure, Start: op.Created, Evidence: r.Evidence,
		}
		if op.Phase.Settled() {
			e.End = op.Updated
		}
		out = append(out, e)
	}
	return out, nil
}
