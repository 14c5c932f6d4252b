package slots

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/disks"
	"github.com/trident-project/trident/internal/servicing/slots/liveos"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
)

// Install returns the start of an installation, or, without finalize, of its staging. beside
// says that the other systems of the host stay as they are.
func (s *Service) Install(asked *hostconfig.Config, finalize, callerReboots, beside bool) change.Begin {
	r := record.Record{Asked: asked.Recorded(), Purpose: record.Installs, Slot: slot.A, CallerReboots: callerReboots, Beside: beside}
	if !finalize {
		return s.begins(opInstallStage, "stage an installation", r)
	}
	return s.begins(opInstall, "install an operating system", r)
}

// Update returns the start of an update into the other slot, or, without finalize, of its
// staging. The operation logs the reasons.
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

// slotRecord returns the record of an operation on the slot that does not run. It fails if
// the host has no A/B volumes, or does not run from the active slot of its status.
func (s *Service) slotRecord(st change.State) (record.Record, error) {
	active, err := active(st)
	if err != nil {
		return record.Record{}, err
	}
	paths := record.DevicesOf(st.Status.PartitionPaths)
	running, err := s.loader.Running(st.Runs, paths)
	if err != nil {
		return record.Record{}, err
	}
	if running != active {
		err := errkind.Errorf(errkind.Precondition, "according to its status this host runs from %s, but the mounted root file system is not in that slot", active)
		return record.Record{}, errkind.WithName(err, errkind.NameRootDevicePathAbActiveVolumeMismatch)
	}
	return record.Record{
		Old: st.Runs.Recorded(), Slot: active.Other(), Index: st.Status.InstallIndex,
		Paths: paths, Disks: record.DevicesOf(st.Status.DiskUUIDs), Sealed: s.sealed(),
	}, nil
}

// mostSearched is how many operations are searched for what an earlier one has recorded: all of
// the journal.
const mostSearched = 1000

// sealed returns the sealed volumes that the newest operation with some has recorded.
func (s *Service) sealed() []record.Sealed {
	list, err := s.Runner.List(context.Background(), mostSearched, false)
	if err != nil {
		s.Logger.Warn("find the operation that sealed the encrypted volumes", "error", err)
		return nil
	}
	for _, op := range list {
		r, is := recordOf(op)
		if !is || len(r.Sealed) == 0 {
			continue
		}
		for i := range r.Sealed {
			r.Sealed[i].Own = false
		}
		return r.Sealed
	}
	return nil
}

// searched returns the operations that are searched for what an earlier one has recorded.
func (s *Service) searched(ctx context.Context) ([]operation.Operation, error) {
	return s.Runner.List(ctx, mostSearched, false)
}

// active returns the slot that the host runs from according to its status.
func active(st change.State) (slot.Slot, error) {
	active, err := slot.Parse(string(st.Status.ABActiveVolume))
	volumes := st.Runs.Spec().Storage.ABUpdate
	if err != nil || volumes == nil || len(volumes.VolumePairs) == 0 {
		err := errkind.Errorf(errkind.Precondition, "this host has no A/B volumes, so it has no other slot")
		return 0, errkind.WithName(errkind.WithHint(err, "Install the host again with storage.abUpdate."), errkind.NameInvalidHostConfigurationDynamic)
	}
	return active, nil
}

// Finalize returns the start of an operation that finalizes what is staged.
func (s *Service) Finalize(st change.State, callerReboots bool) (change.Begin, error) {
	r := record.Record{
		Purpose: record.Installs, Slot: slot.A, Index: st.Status.InstallIndex, Indexed: true, Sealed: s.sealed(),
		Paths: record.DevicesOf(st.Status.PartitionPaths), Disks: record.DevicesOf(st.Status.DiskUUIDs),
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
		r.Purpose = record.GoesBack
		kind, summary = opABRollbackFinalize, "finalize a rollback to the other slot"
	}
	r.Asked, r.CallerReboots, r.Partitioned = st.Next.Recorded(), callerReboots, true
	if r.SHA384 = change.ImageOf(r.Asked.String()); r.SHA384 != "" && r.Purpose != record.GoesBack {
		staged := s.stagedBy(r)
		r.Parts, r.Bootloader, r.Beside = staged.Parts, staged.Bootloader, staged.Beside
	}
	return s.begins(kind, summary, r), nil
}

// stagedBy returns the record of the operation that staged the image of r: its parts have the
// proofs that "try" checks. The record is empty if the journal has no such operation, as when
// another program staged it. Then "try" trusts the status of the host.
func (s *Service) stagedBy(r record.Record) record.Record {
	list, err := s.Runner.List(context.Background(), mostSearched, false)
	if err != nil {
		s.Logger.Warn("find the operation that staged the image", "error", err)
		return record.Record{}
	}
	for _, op := range list {
		staged, is := recordOf(op)
		if is && (op.Kind == opInstallStage || op.Kind == opABUpdateStage) && op.Phase == operation.Done && staged.SHA384 == r.SHA384 && staged.Slot == r.Slot {
			for i := range staged.Parts {
				if t := staged.Parts[i].Tree; t != nil {
					t.In = "" // the slot may have changed since: "try" compares it again
				}
			}
			return staged
		}
	}
	return record.Record{}
}

// RollBack returns the start of a rollback to the other slot, whose configuration is back,
// or, without finalize, of its staging.
func (s *Service) RollBack(st change.State, back *hostconfig.Config, finalize, callerReboots bool) (change.Begin, error) {
	r, err := s.slotRecord(st)
	if err != nil {
		return nil, err
	}
	r.Asked, r.Purpose, r.CallerReboots = back.Recorded(), record.GoesBack, callerReboots
	if !finalize {
		return s.begins(opABRollbackStage, "stage a rollback to the other slot", r), nil
	}
	return s.begins(opABRollback, "roll the host back to the other slot", r), nil
}

// OnTrial returns the newest operation. ok reports whether its trial runs in this boot, or
// ended in it.
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

// TakeReboots has Trident reboot the host for op from now on, because the caller who wanted
// to is gone. If the undo of op waits for a reboot, TakeReboots requests it.
func (s *Service) TakeReboots(ctx context.Context, op operation.Operation) error {
	s.reboots.Store(true)
	if op.Phase != operation.Undoing || op.Waiting != operation.Reboot {
		return nil
	}
	return s.Reboot(ctx)
}

func recordOf(op operation.Operation) (r record.Record, ok bool) {
	does, _ := KindOf(op.Kind)
	return r, does != "" && does != change.None && json.Unmarshal(op.State, &r) == nil
}

// Commit returns the start of an operation that confirms a trial which another program,
// such as upstream's, has begun.
func (s *Service) Commit(st change.State, callerReboots bool) (change.Begin, error) {
	r := record.Record{
		Asked: st.Next.Recorded(), Slot: slot.A, Index: st.Status.InstallIndex, Partitioned: true, CallerReboots: callerReboots,
		Paths: record.DevicesOf(st.Status.PartitionPaths), Disks: record.DevicesOf(st.Status.DiskUUIDs), RebootFrom: unknownBoot,
	}
	if st.Phase == hoststate.TryingInstall {
		r.Purpose = record.Installs
		return s.begins(OpCommit, "commit an installation", r), nil
	}
	active, err := active(st)
	if err != nil {
		return nil, err
	}
	if r.Slot, r.Old = active.Other(), st.Runs.Recorded(); st.Phase == hoststate.TryingABRollback {
		r.Purpose = record.GoesBack
	}
	return s.begins(OpCommit, "commit what was booted", r), nil
}

// CheckRoot returns the start of an operation that only checks whether the host runs from
// the recorded slot.
func (s *Service) CheckRoot(st change.State) change.Begin {
	r := record.Record{Asked: st.Runs.Recorded(), Slot: slot.A, Paths: record.DevicesOf(st.Status.PartitionPaths)}
	if active, err := slot.Parse(string(st.Status.ABActiveVolume)); err == nil {
		r.Slot = active
	}
	return s.begins(opCheckRoot, "check the root file system", r)
}

func (s *Service) begins(kind, summary string, r record.Record) change.Begin {
	return func(ctx context.Context) (operation.Operation, error) { return s.start[kind](ctx, summary, r) }
}

// Plan adds to out the disk changes and the steps of an Update.
func (s *Service) Plan(ctx context.Context, st change.State, out *change.Plan) error {
	r, err := s.slotRecord(st)
	if err != nil {
		return err
	}
	r.Asked = out.Effective.Recorded()
	return s.rehearse(ctx, r, out)
}

// PlanInstall is Plan for an Install. A host that CheckLive refuses is only a warning.
func (s *Service) PlanInstall(ctx context.Context, out *change.Plan) error {
	if err := liveos.CheckLive(s.Root); err != nil {
		out.Warnings = append(out.Warnings, err.Error())
	}
	return s.rehearse(ctx, record.Record{Asked: out.Effective.Recorded(), Purpose: record.Installs, Slot: slot.A}, out)
}

// rehearse runs the checks of the step "image" on a rehearsal host, and completes out.
func (s *Service) rehearse(ctx context.Context, of record.Record, out *change.Plan) error {
	return s.Rehearse(func(dry *change.Host) error {
		d := New(&disks.Disks{Host: dry, Machine: s.disks.Machine}, s.newOS.LinkTrident, s.newOS.HandOverLogs)
		d.loader.TPM = s.loader.TPM
		r := operation.Rehearse("plan", of, out.Warn)
		e, err := d.examine(ctx, r)
		if err != nil {
			return err
		}
		*out = *d.planOf(r, e, *out)
		return nil
	})
}

// planOf returns p with the disk changes and the steps of an examined operation.
func (s *Service) planOf(r *record.Run, e *record.Examined, p change.Plan) *change.Plan {
	d := e.Plan.Describe()
	p.Storage = &d
	p.Steps = change.Planned(s.steps(), e)
	return &p
}

// KindOf returns what an operation of a kind does to its host, or "" for another package's,
// and upstream's name of the metric that counts successful ones, or "".
func KindOf(kind string) (does change.Kind, successMetric string) {
	switch kind {
	case opCheckRoot:
		return change.None, ""
	case opInstallStage:
		return change.CleanInstall, ""
	case opInstall, opInstallFinalize:
		return change.CleanInstall, "clean_install_success"
	case opABUpdateStage:
		return change.ABUpdate, ""
	case opABUpdate, opABUpdateFinalize, OpCommit:
		return change.ABUpdate, "ab_update_success"
	case opABRollbackStage:
		return change.ABRollback, ""
	case opABRollback, opABRollbackFinalize:
		return change.ABRollback, "manual_rollback_success"
	}
	return "", ""
}

// RecoveryKey returns the recovery key that Trident has made for an installation of this boot. The
// error is of kind NotFound if it has made none.
func (s *Service) RecoveryKey(id string) ([]byte, error) { return s.loader.RecoveryKey(id) }

// OnlyWrites reports whether op is only fetching an image, perhaps into the other slot.
func OnlyWrites(op operation.Operation) bool {
	return (op.Kind == opABUpdate || op.Kind == opABUpdateStage) && slices.Contains([]string{"begin", "image", "write"}, op.Step)
}
