package slots

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
)

// Install decides to install a configuration, or with finalize false to stage that.
func (s *Service) Install(asked *hostconfig.Config, finalize, callerReboots bool) change.Begin {
	r := record{Asked: asked.Recorded(), Purpose: installs, Slot: slot.A, CallerReboots: callerReboots}
	if !finalize {
		return s.begins(opInstallStage, "stage an installation", r)
	}
	return s.begins(opInstall, "install an operating system", r)
}

// Update decides to update a host that has a configuration into the other slot, for some
// reasons, or with finalize false to stage that.
func (s *Service) Update(st change.State, asked *hostconfig.Config, reasons []string, finalize, callerReboots bool) (change.Begin, error) {
	r, err := s.slotRecord(st)
	if err != nil {
		return nil, err
	}
	r.Asked, r.CallerReboots, r.Reasons = asked.Recorded(), callerReboots, reasons
	if !finalize {
		return s.begins(opABUpdateStage, "stage an A/B update", r), nil
	}
	return s.begins(opABUpdate, "update the host A/B", r), nil
}

// slotRecord is the record of a servicing of the slot that does not run.
func (s *Service) slotRecord(st change.State) (record, error) {
	spec := &st.Runs.Spec().Storage
	active, err := active(st)
	if err != nil {
		return record{}, err
	}
	running, err := s.running(spec, st.Status.PartitionPaths)
	if err != nil {
		return record{}, err
	}
	if running != active {
		err := errkind.Errorf(errkind.Precondition, "by its status this host runs from %s, but its root file system is not on it", active)
		return record{}, errkind.WithName(err, errkind.NameRootDevicePathAbActiveVolumeMismatch)
	}
	return record{
		Old: st.Runs.Recorded(), Slot: active.Other(), Index: st.Status.InstallIndex,
		Paths: fromMap(st.Status.PartitionPaths), Disks: fromMap(st.Status.DiskUUIDs),
	}, nil
}

// active is the slot that the host runs from by its status.
func active(st change.State) (slot.Slot, error) {
	active, err := slot.Parse(string(st.Status.ABActiveVolume))
	if err != nil || len(storage.Pairs(&st.Runs.Spec().Storage)) == 0 {
		err := errkind.Errorf(errkind.Precondition, "this host has no A/B volumes, so nothing can be written that does not run")
		return 0, errkind.WithName(errkind.WithHint(err, "Install it anew with storage.abUpdate."), errkind.NameInvalidHostConfigurationDynamic)
	}
	return active, nil
}

// Finalize decides to finalize what is staged.
func (s *Service) Finalize(st change.State, callerReboots bool) (change.Begin, error) {
	r := record{
		Purpose: installs, Slot: slot.A, Index: st.Status.InstallIndex, Indexed: true,
		Paths: fromMap(st.Status.PartitionPaths), Disks: fromMap(st.Status.DiskUUIDs),
	}
	kind, summary := opInstallFinalize, "finalize an installation"
	if st.Phase != hoststate.StagedInstall {
		var err error
		if r, err = s.slotRecord(st); err != nil {
			return nil, err
		}
		kind, summary = opABUpdateFinalize, "finalize an A/B update"
	}
	if st.Phase == hoststate.StagedABRollback {
		r.Purpose = goesBack
		kind, summary = opABRollbackFinalize, "finalize a rollback to the other slot"
	}
	r.Asked, r.CallerReboots, r.Partitioned = st.Next.Recorded(), callerReboots, true
	if r.SHA384 = ImageOf(r.Asked.String()); r.SHA384 != "" && r.Purpose != goesBack {
		r.Parts = s.stagedParts(r)
	}
	return s.begins(kind, summary, r), nil
}

// stagedParts returns what the operation that staged the image of r has written down of
// its parts: the proof that "try" wants. It is nil where no operation in the journal has
// staged that image: another program did, or the journal has forgotten it. The status of
// the host, which says that the image is staged, counts then.
func (s *Service) stagedParts(r record) []part {
	const most = 50 // operations since
	list, err := s.Runner.List(context.Background(), most, false)
	if err != nil {
		s.Logger.Warn("find out which operation has staged the image", "error", err)
		return nil
	}
	for _, op := range list {
		staged, is := recordOf(op)
		if is && (op.Kind == opInstallStage || op.Kind == opABUpdateStage) && op.Phase == operation.Done && staged.SHA384 == r.SHA384 && staged.Slot == r.Slot {
			return staged.Parts
		}
	}
	return nil
}

// RollBack decides to go back to the other slot, which has the configuration back, or with
// finalize false to stage that.
func (s *Service) RollBack(st change.State, back *hostconfig.Config, finalize, callerReboots bool) (change.Begin, error) {
	r, err := s.slotRecord(st)
	if err != nil {
		return nil, err
	}
	r.Asked, r.Purpose, r.CallerReboots = back.Recorded(), goesBack, callerReboots
	if !finalize {
		return s.begins(opABRollbackStage, "stage a rollback to the other slot", r), nil
	}
	return s.begins(opABRollback, "roll the host back to the other slot", r), nil
}

// OnTrial is the operation that has led to this boot.
func (s *Service) OnTrial(ctx context.Context) (op operation.Operation, ok bool, err error) {
	last, err := s.Runner.List(ctx, 1, false)
	if err != nil || len(last) == 0 {
		return operation.Operation{}, false, err
	}
	r, is := recordOf(last[0])
	if !is || r.RebootFrom == "" {
		return operation.Operation{}, false, nil
	}
	now := s.Runner.Life.Boot
	return last[0], !last[0].Phase.Settled() && r.RebootFrom != now || r.Ended == now, nil
}

// TakeReboots has Trident reboot the host, where that is needed, for an operation
// whose caller had wanted to, and is gone.
func (s *Service) TakeReboots(ctx context.Context, op operation.Operation) error {
	s.reboots.Store(true)
	if op.Phase != operation.Undoing || op.Waiting != operation.Reboot {
		return nil
	}
	return s.rebootHost(ctx)
}

func recordOf(op operation.Operation) (r record, ok bool) {
	switch KindOf(op.Kind) {
	case change.CleanInstall, change.ABUpdate, change.ABRollback:
		return r, op.Kind != OpStreamDisk && json.Unmarshal(op.State, &r) == nil
	}
	return r, false
}

// Commit decides to confirm a trial that another program has begun, such as upstream's.
func (s *Service) Commit(st change.State, callerReboots bool) (change.Begin, error) {
	r := record{
		Asked: st.Next.Recorded(), Slot: slot.A, Index: st.Status.InstallIndex, Partitioned: true, CallerReboots: callerReboots,
		Paths: fromMap(st.Status.PartitionPaths), Disks: fromMap(st.Status.DiskUUIDs), RebootFrom: unknownBoot,
	}
	if st.Phase == hoststate.TryingInstall {
		r.Purpose = installs
		return s.begins(OpCommit, "commit an installation", r), nil
	}
	active, err := active(st)
	if err != nil {
		return nil, err
	}
	if r.Slot, r.Old = active.Other(), st.Runs.Recorded(); st.Phase == hoststate.TryingABRollback {
		r.Purpose = goesBack
	}
	return s.begins(OpCommit, "commit what was booted", r), nil
}

// CheckRoot decides to do nothing but say whether the volume that is booted is the one
// that is recorded.
func (s *Service) CheckRoot(st change.State) change.Begin {
	r := record{Asked: st.Runs.Recorded(), Slot: slot.A, Paths: fromMap(st.Status.PartitionPaths)}
	if active, err := slot.Parse(string(st.Status.ABActiveVolume)); err == nil {
		r.Slot = active
	}
	return s.begins(opCheckRoot, "check the root file system", r)
}

func (s *Service) begins(kind, summary string, r record) change.Begin {
	return func(ctx context.Context) (operation.Operation, error) { return s.start[kind](ctx, summary, r) }
}

// Plan completes the plan of what Update would do.
func (s *Service) Plan(ctx context.Context, st change.State, out *change.Plan) error {
	r, err := s.slotRecord(st)
	if err != nil {
		return err
	}
	r.Asked = out.Effective.Recorded()
	return s.rehearse(ctx, r, out)
}

// PlanInstall completes the plan of what Install would do.
func (s *Service) PlanInstall(ctx context.Context, out *change.Plan) error {
	if err := s.safeToInstall(); err != nil {
		out.Warnings = append(out.Warnings, err.Error())
	}
	return s.rehearse(ctx, record{Asked: out.Effective.Recorded(), Purpose: installs, Slot: slot.A}, out)
}

// rehearse does what "image" does, and completes a plan by what that has found.
func (s *Service) rehearse(ctx context.Context, of record, out *change.Plan) error {
	return s.Rehearse(func(dry *change.Host) error {
		d := &Service{Host: dry, Machine: s.Machine, Self: s.Self}
		r := operation.Rehearse("plan", of, out.Warn)
		e, err := d.examineImage(ctx, r)
		if err != nil {
			return err
		}
		*out = *d.planOf(r, e, *out)
		return nil
	})
}

// planOf completes a plan by what an examination has found.
func (s *Service) planOf(r *opRun, e *examined, p change.Plan) *change.Plan {
	d := e.plan.Describe()
	p.Storage = &d
	p.Steps = change.Planned(s.steps(), &planned{config: e.config, on: r.State.Purpose.on(), os: &r.State, examined: e})
	return &p
}

func newSeed() []byte {
	seed := make([]byte, 32)
	_, _ = rand.Read(seed)
	return seed
}

// KindOf is what an operation of a kind in the journal is to its host; "" if it is none of
// this package's.
func KindOf(kind string) change.Kind {
	switch kind {
	case opCheckRoot:
		return change.None
	case opInstall, opInstallStage, opInstallFinalize, OpStreamDisk:
		return change.CleanInstall
	case opABUpdate, opABUpdateStage, opABUpdateFinalize, OpCommit:
		return change.ABUpdate
	case opABRollback, opABRollbackStage, opABRollbackFinalize:
		return change.ABRollback
	}
	return ""
}

// OnlyWrites reports whether op has changed nothing of what the host runs: it fetches an
// image, perhaps into the other slot.
func OnlyWrites(op operation.Operation) bool {
	return (op.Kind == opABUpdate || op.Kind == opABUpdateStage) && slices.Contains([]string{"begin", "image", "write"}, op.Step)
}

// SuccessMetric is upstream's name of the metric of an operation of a kind that went well;
// "" if there is none.
func SuccessMetric(kind string) string {
	switch kind {
	case opInstall, opInstallFinalize:
		return "clean_install_success"
	case opABUpdate, opABUpdateFinalize, OpCommit:
		return "ab_update_success"
	case opABRollback, opABRollbackFinalize:
		return "manual_rollback_success"
	}
	return ""
}
