package servicing

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
)

// InstallRequest asks for an operating system on the disks of this host.
type InstallRequest struct {
	Config          *hostconfig.Config
	Stage, Finalize bool // as in UpdateRequest
	CallerReboots   bool
	// Multiboot: what else can be booted stays.
	Multiboot bool
}

// Install begins to install what a configuration says. It may be asked again for
// what is staged already, and then finalizes that. What is on the disks of the
// configuration is lost.
//
// Errors: of kind Precondition on a host that is provisioned, Unsupported for what
// cannot be set up, Busy.
func (s *Service) Install(ctx context.Context, req InstallRequest) (operationID string, err error) {
	id, err := s.decide(ctx, func(st state) (decision, error) {
		asked, err := st.installable(req.Config)
		if err != nil {
			return nil, err
		}
		switch {
		case !req.Stage && !req.Finalize:
			return nil, errkind.Errorf(errkind.Invalid, "neither staging nor finalizing is allowed")
		case req.Multiboot:
			return nil, multiboot(asked)
		case st.phase == hoststate.StagedInstall && same(like(asked, st.next), st.next):
			if req.Finalize {
				return s.finalizeOS(st, req.CallerReboots)
			}
			return s.begins(nothing(st, "the installation is staged already"))
		case !req.Stage:
			return nil, unexpected(errkind.Errorf(errkind.Precondition, "the installation is not staged, and may not be staged now"))
		}
		r := osRecord{Asked: string(asked.YAML()), Install: true, Slot: slot.A, CallerReboots: req.CallerReboots}
		if !req.Finalize {
			return s.beginsOS(opInstallStage, "stage an installation", r), nil
		}
		return s.beginsOS(opInstall, "install an operating system", r), nil
	})
	return id, wrap("install", err)
}

// FinalizeInstall begins to make bootable what is staged by Install.
func (s *Service) FinalizeInstall(ctx context.Context, callerReboots bool) (operationID string, err error) {
	id, err := s.decide(ctx, func(st state) (decision, error) {
		if st.phase != hoststate.StagedInstall {
			err := errkind.Errorf(errkind.Precondition, "no installation is staged: the host is in the state %s", st.phase.State())
			return nil, errkind.WithHint(unexpected(err), "Stage it first, in the same boot of a live system that forgets what it has staged.")
		}
		return s.finalizeOS(st, callerReboots)
	})
	return id, wrap("finalize installation", err)
}

// installable is a configuration, completed, that can be installed on the host.
func (st state) installable(c *hostconfig.Config) (*hostconfig.Config, error) {
	if st.phase != (hoststate.Fresh{}) && st.phase != hoststate.StagedInstall {
		err := errkind.Errorf(errkind.Precondition, "this host is provisioned already")
		return nil, errkind.WithName(errkind.WithHint(err, "Update it instead, or boot an installer."), errkind.NameCleanInstallOnProvisionedHost)
	}
	asked, report := rules.Effective(nil, c)
	if err := report.Err(); err != nil {
		if invalid := hostconfig.Invalid(err); invalid != nil {
			err = errkind.WithName(err, invalid.Name())
		}
		return nil, err
	}
	if spec := asked.Spec(); spec.Image == nil {
		return nil, errkind.WithName(errkind.Errorf(errkind.Invalid, "the configuration has no image"), errkind.NameMissingOsImage)
	} else if len(spec.Storage.Disks) == 0 {
		return nil, errkind.WithName(errkind.Errorf(errkind.Invalid, "the configuration has no disks"), errkind.NameInvalidHostConfigurationDynamic)
	}
	return asked, checkDestinations(asked)
}

func multiboot(c *hostconfig.Config) error {
	for _, d := range c.Spec().Storage.Disks {
		if len(d.AdoptedPartitions) > 0 {
			return errkind.Errorf(errkind.Unsupported, "this version of Trident cannot install beside another system yet")
		}
	}
	return errkind.WithName(errkind.Errorf(errkind.Invalid, "an installation beside another system has to adopt partitions of it"), errkind.NameMultibootWithoutAdoptedPartitions)
}

// updateOS begins an update into the other slot.
func (s *Service) updateOS(st state, p plan, req UpdateRequest) (decision, error) {
	switch {
	case st.runs == nil:
		err := errkind.Errorf(errkind.Precondition, "this host was never provisioned")
		return nil, errkind.WithName(errkind.WithHint(err, "Install it, or leave image and storage out of the configuration."), errkind.NameHostNotProvisioned)
	case !req.Stage:
		return nil, unexpected(errkind.Errorf(errkind.Precondition, "the configuration is not staged, and may not be staged now"))
	}
	r, err := s.slotRecord(st)
	if err != nil {
		return nil, fmt.Errorf("this needs the servicing %s (%s): %w", p.change.Kind, strings.Join(reasons(p.change), "; "), err)
	}
	r.Asked, r.CallerReboots, r.Reasons = string(p.asked.YAML()), req.CallerReboots, reasons(p.change)
	if !req.Finalize {
		return s.beginsOS(opABUpdateStage, "stage an A/B update", r), nil
	}
	return s.beginsOS(opABUpdate, "update the host A/B", r), nil
}

// slotRecord is the record of a servicing of the slot that does not run.
func (s *Service) slotRecord(st state) (osRecord, error) {
	spec := &st.runs.Spec().Storage
	active, err := st.active()
	if err != nil {
		return osRecord{}, err
	}
	running, err := osService{s}.running(spec, st.status.PartitionPaths)
	if err != nil {
		return osRecord{}, err
	}
	if running != active {
		err := errkind.Errorf(errkind.Precondition, "by its status this host runs from %s, but its root file system is not on it", active)
		return osRecord{}, errkind.WithName(err, errkind.NameRootDevicePathAbActiveVolumeMismatch)
	}
	return osRecord{
		Old: string(st.runs.YAML()), Slot: active.Other(), Index: st.status.InstallIndex,
		Paths: fromMap(st.status.PartitionPaths), Disks: fromMap(st.status.DiskUUIDs),
	}, nil
}

// active is the slot that the host runs from by its status.
func (st state) active() (slot.Slot, error) {
	active, err := slot.Parse(string(st.status.ABActiveVolume))
	if err != nil || len(storage.Pairs(&st.runs.Spec().Storage)) == 0 {
		err := errkind.Errorf(errkind.Precondition, "this host has no A/B volumes, so nothing can be written that does not run")
		return 0, errkind.WithName(errkind.WithHint(err, "Install it anew with storage.abUpdate."), dynamic)
	}
	return active, nil
}

// finalizeOS is for what is staged.
func (s *Service) finalizeOS(st state, callerReboots bool) (decision, error) {
	r := osRecord{
		Install: true, Slot: slot.A, Index: st.status.InstallIndex, Indexed: true,
		Paths: fromMap(st.status.PartitionPaths), Disks: fromMap(st.status.DiskUUIDs),
	}
	kind, summary := opInstallFinalize, "finalize an installation"
	if st.phase != hoststate.StagedInstall {
		var err error
		if r, err = s.slotRecord(st); err != nil {
			return nil, err
		}
		kind, summary = opABUpdateFinalize, "finalize an A/B update"
	}
	if st.phase == hoststate.StagedABRollback {
		r.Back = true
		kind, summary = opABRollbackFinalize, "finalize a rollback to the other slot"
	}
	r.Asked, r.CallerReboots, r.Partitioned = string(st.next.YAML()), callerReboots, true
	if r.SHA384 = imageOf(r.Asked); r.SHA384 != "" && !r.Back {
		r.Parts = s.stagedParts(r)
	}
	return s.beginsOS(kind, summary, r), nil
}

// stagedParts returns what the operation that staged the image of r has written down of
// its parts: the proof that "try" wants. It is nil where no operation in the journal has
// staged that image: another program did, or the journal has forgotten it. The status of
// the host, which says that the image is staged, counts then.
func (s *Service) stagedParts(r osRecord) []part {
	const most = 50 // operations since
	list, err := s.Runner.List(context.Background(), most, false)
	if err != nil {
		s.Logger.Warn("find out which operation has staged the image", "error", err)
		return nil
	}
	for _, op := range list {
		staged, is := osRecordOf(op)
		if is && (op.Kind == opInstallStage || op.Kind == opABUpdateStage) && op.Phase == operation.Done && staged.SHA384 == r.SHA384 && staged.Slot == r.Slot {
			return staged.Parts
		}
	}
	return nil
}

// rollBackOS begins the way back to the other slot.
func (s *Service) rollBackOS(st state, link hoststate.Link, req RollbackRequest) (decision, error) {
	back, err := hostconfig.ParseRecorded([]byte(link.Spec))
	if err != nil {
		return nil, err
	}
	r, err := s.slotRecord(st)
	if err != nil {
		return nil, err
	}
	r.Asked, r.Back, r.CallerReboots = string(back.YAML()), true, req.CallerReboots
	if !req.Finalize {
		return s.beginsOS(opABRollbackStage, "stage a rollback to the other slot", r), nil
	}
	return s.beginsOS(opABRollback, "roll the host back to the other slot", r), nil
}

// Commit confirms what was booted. An operation of ours goes on by itself after the
// boot: then the result is that operation, or the one that has ended in this boot.
// It is "" where there is nothing to confirm.
func (s *Service) Commit(ctx context.Context, callerReboots bool) (operationID string, err error) {
	if op, ok, err := s.onTrial(ctx); err != nil || ok {
		if err == nil && !callerReboots {
			err = s.takeReboots(ctx, op)
		}
		return op.ID, wrap("commit", err)
	}
	st, err := s.state(ctx)
	if err != nil {
		return "", wrap("commit", err)
	}
	if _, trying := st.phase.(hoststate.Trying); !trying {
		return "", nil
	}
	id, err := s.decideAny(ctx, func(st state) (decision, error) { return s.commitOS(st, callerReboots) })
	return id, wrap("commit", err)
}

// onTrial is the operation that has led to this boot.
func (s *Service) onTrial(ctx context.Context) (op operation.Operation, ok bool, err error) {
	last, err := s.Runner.List(ctx, 1, false)
	if err != nil || len(last) == 0 {
		return operation.Operation{}, false, err
	}
	r, is := osRecordOf(last[0])
	if !is || r.RebootFrom == "" {
		return operation.Operation{}, false, nil
	}
	now := s.Runner.Life.Boot
	return last[0], !last[0].Phase.Settled() && r.RebootFrom != now || r.Ended == now, nil
}

// takeReboots has Trident reboot the host, where that is needed, for an operation
// whose caller had wanted to, and is gone.
func (s *Service) takeReboots(ctx context.Context, op operation.Operation) error {
	s.reboots.Store(true)
	if op.Phase != operation.Undoing || op.Waiting != operation.Reboot {
		return nil
	}
	return s.rebootHost(ctx)
}

func osRecordOf(op operation.Operation) (r osRecord, ok bool) {
	switch kindOf(op.Kind) {
	case CleanInstall, ABUpdate, ABRollback:
		return r, op.Kind != opStreamDisk && json.Unmarshal(op.State, &r) == nil
	}
	return r, false
}

// commitOS is for a trial that another program has begun, such as upstream's.
func (s *Service) commitOS(st state, callerReboots bool) (decision, error) {
	r := osRecord{
		Asked: string(st.next.YAML()), Slot: slot.A, Index: st.status.InstallIndex, Partitioned: true, CallerReboots: callerReboots,
		Paths: fromMap(st.status.PartitionPaths), Disks: fromMap(st.status.DiskUUIDs), RebootFrom: someBoot,
	}
	if st.phase == hoststate.TryingInstall {
		r.Install = true
		return s.beginsOS(opCommit, "commit an installation", r), nil
	}
	active, err := st.active()
	if err != nil {
		return nil, err
	}
	r.Slot, r.Old, r.Back = active.Other(), string(st.runs.YAML()), st.phase == hoststate.TryingABRollback
	return s.beginsOS(opCommit, "commit what was booted", r), nil
}

// CheckRoot begins an operation that changes nothing and says whether the volume
// that is booted is the one that is recorded.
func (s *Service) CheckRoot(ctx context.Context) (operationID string, err error) {
	id, err := s.decideAny(ctx, func(st state) (decision, error) {
		if st.runs == nil {
			return nil, errkind.WithName(errkind.Errorf(errkind.Precondition, "this host was never provisioned"), errkind.NameHostNotProvisioned)
		}
		r := osRecord{Asked: string(st.runs.YAML()), Slot: slot.A, Paths: fromMap(st.status.PartitionPaths)}
		if active, err := slot.Parse(string(st.status.ABActiveVolume)); err == nil {
			r.Slot = active
		}
		return s.beginsOS(opCheckRoot, "check the root file system", r), nil
	})
	return id, wrap("check root", err)
}

// like is c with the hash of the image that it ignores, if other has that image.
func like(c, other *hostconfig.Config) *hostconfig.Config {
	a, b := c.Spec().Image, other.Spec().Image
	if a == nil || b == nil || a.SHA384 != hostconfig.HashIgnored || a.URL != b.URL {
		return c
	}
	return c.Amend(func(spec *hostconfig.Spec) { spec.Image.SHA384 = b.SHA384 })
}
