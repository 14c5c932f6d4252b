// Package rebuild has the operation that makes degraded arrays whole again. It works from
// the state of the arrays, so it repairs a member that failed or was kicked out as well as a
// replaced disk.
package rebuild

import (
	"context"
	"log/slog"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/loader"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
)

// OpRebuild is the kind, in the journal, of the operation.
const OpRebuild = "rebuild-raid"

// Service has the operation on one host.
type Service struct {
	*change.Host
	machine machine.Machine
	loader  *loader.Loader
	start   operation.Starter[progress]
}

// New returns the operation on the host of l.
func New(l *loader.Loader) *Service {
	return &Service{Host: l.Host, machine: l.Machine, loader: l}
}

// progress is the record of the operation. Another version of Trident may continue it: add
// fields, never rename, remove or retype one, and never add a map.
type progress struct {
	Spec hostconfig.Recorded `json:"spec"`
	// Seed makes the table of a new disk the same at each attempt.
	Seed  []byte `json:"seed"`
	Index int    `json:"index"` // of the OS on its ESP
	// Was and Paths are the durable paths of all partitions: as the host status has them,
	// and as they will be recorded.
	Was   []path    `json:"was"`
	Paths []path    `json:"paths"`
	Disks []newDisk `json:"disks"`
}

// path is the durable path of a partition of the configuration.
type path struct {
	ID   string `json:"id"`
	Path string `json:"path"`
}

// newDisk is a disk that gets a new partition table.
type newDisk struct {
	ID string `json:"id"`
	// Serial and Size recognise the disk that the step "check" has seen.
	Serial string `json:"serial"`
	Size   int64  `json:"size"`
	Done   bool   `json:"done"`
}

type run = operation.Run[progress]

// Register registers the operation with the runner of the host.
func (s *Service) Register() {
	s.start = operation.Register(s.Runner, operation.Kind[progress]{Name: OpRebuild, Steps: []operation.Step[progress]{
		{Name: "begin", Do: s.begin, Undo: s.recordFailure},
		{Name: "check", Do: s.check},             // no Undo: it changes nothing
		{Name: "partition", Do: s.partition},     // no Undo: nothing uses the disk yet, and what it contained is lost
		{Name: "add", Do: s.add},                 // no Undo: a member more does no harm, and the kernel goes on with it
		{Name: "sync", Do: s.sync},               // no Undo: it only waits
		{Name: "boot entries", Do: s.redirect},   // no Undo: the entries lead to members in sync
		{Name: "record", Do: s.recordIdentities}, // no Undo: the arrays are whole
	}})
}

// Rebuild returns the start of the operation. It fails with errkind.Precondition if the host
// was never provisioned, or has no arrays.
func (s *Service) Rebuild(st change.State) (change.Begin, error) {
	p, err := newProgress(st)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (operation.Operation, error) {
		return s.start(ctx, "rebuild RAID arrays", p)
	}, nil
}

// begin records that nothing has failed.
func (s *Service) begin(ctx context.Context, _ *run) error {
	return s.RecordStatus(ctx, "record begin", func(st *hoststate.Status) { st.LastError = nil })
}

func (s *Service) recordFailure(ctx context.Context, r *run) error {
	op, err := s.Runner.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	return s.RecordStatus(ctx, "record failure", func(st *hoststate.Status) { st.LastError = change.LastErrorOf(op) })
}

// recordIdentities records the disks and partitions that the host has now, if all arrays are
// whole. It is last: until then the next operation finds what this one has left undone.
func (s *Service) recordIdentities(ctx context.Context, r *run) error {
	v, err := s.view(ctx, r)
	if err != nil {
		return err
	}
	for _, a := range v.arrays {
		if a.state.Missing > 0 {
			return failed(errkind.Errorf(errkind.Precondition, "array %q has lost a member again", a.config.ID))
		}
	}
	err = s.RecordStatus(ctx, "record identities", func(st *hoststate.Status) {
		st.LastError = nil
		for _, m := range []*map[string]string{&st.DiskUUIDs, &st.PartitionPaths} {
			if *m == nil {
				*m = map[string]string{}
			}
		}
		for _, d := range v.disks {
			if d.home != nil && d.home.TableID != "" {
				st.DiskUUIDs[d.config.ID] = d.home.TableID
			}
		}
		for _, p := range r.State.Paths {
			st.PartitionPaths[p.ID] = p.Path
		}
	})
	if err == nil {
		r.Logf(slog.LevelInfo, "all arrays are whole")
	}
	return err
}

// interval is the time between two looks at a resync, of which the kernel reports no events.
const interval = time.Second

// failed gives an error that the arrays are not whole upstream's name.
func failed(err error) error { return errkind.WithName(err, errkind.NameRebuildRaid) }
