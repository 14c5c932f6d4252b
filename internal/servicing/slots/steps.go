// Package slots has the operations on slots and on whole disks: an installation, an update
// into the other slot, a rollback to it, the commit of a booted system, and the writing of a
// whole disk. An operation that reboots the host continues in the system that boots, except
// for the writing of a whole disk.
package slots

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/slot"
)

// Service has the operations on the slots and the disks of one host.
type Service struct {
	*change.Host
	Machine Machine
	Self    *selfservice.Service
	// HandOverLogs copies the logs of this host, and of the operation so far, to a folder of
	// the installed system.
	HandOverLogs func(ctx context.Context, operationID, dir string) error

	reboots atomic.Bool // despite CallerReboots, because that caller is gone
	start   map[string]operation.Starter[record]
	stream  operation.Starter[diskRecord]
}

// Register registers the operations with the runner of the host.
func (s *Service) Register() {
	s.start = s.register(s.Runner)
	s.stream = operation.Register(s.Runner, operation.Kind[diskRecord]{Name: OpStreamDisk, Steps: change.Runnable(s.diskSteps())})
}

// Places returns the files and folders that this package needs to undo an operation.
func Places() []string {
	return []string{"/" + managementDir, unitDir + guardTimer, unitDir + guardService, guardLink}
}

// steps returns the steps of an installation or an update into the other slot. Before "try"
// nothing boots the slot. In an update the old system is the default until "settle".
func (s *Service) steps() []opStep {
	return append([]opStep{
		{Name: "begin", Do: s.beginServicing, Undo: s.recordFailure},
		{Name: "management os", Do: s.setUpManagementOS, Undo: s.restoreManagementOS, Effects: setsUpManagementOS}, // before "image", which may need this network
		{Name: "image", Do: s.checkImage, Undo: s.discard},
		{Name: "pre-servicing", Do: s.preServicing, Effects: scripts(preScripts)}, // no Undo: nobody knows what a script has changed
		{Name: "partition", Do: s.partition, Effects: partitions},                 // no Undo: what the partitions contained is lost
		{Name: "write", Do: s.write, Effects: writesImage},                        // no Undo: nothing boots or mounts these partitions yet
		{Name: "post-provision", Do: s.postProvision, Undo: s.unmount, Effects: scripts(provisionScripts)},
		{Name: "configure", Do: s.configure, Undo: s.unmount, Effects: configures},
		{Name: "post-configure", Do: s.postConfigure, Undo: s.unmount, Effects: scripts(configureScripts)},
		{Name: "labels", Do: s.label, Undo: s.unmount, Effects: labelsFiles},
		{Name: "boot files", Do: s.stageBoot, Undo: s.forget, Effects: stagesBoot},
		{Name: "stage", Do: s.recordStaged}, // no Undo: that of "begin" records the previous status
		{Name: "finalize", Do: s.beginFinalize, Undo: s.recordFailure},
		{Name: "try", Do: s.try, Undo: s.forget, Effects: tries},
	}, s.trial()...)
}

// back returns the steps of a rollback by command.
func (s *Service) back() []opStep {
	return append([]opStep{
		{Name: "begin", Do: s.beginServicing, Undo: s.recordFailure},
		{Name: "look", Do: s.checkRollback}, // no Undo: it changes nothing
		{Name: "stage", Do: s.recordStaged}, // no Undo: that of "begin" records the previous status
		{Name: "finalize", Do: s.beginFinalize, Undo: s.recordFailure},
		{Name: "try", Do: s.try, Undo: s.endTrial},
	}, s.trial()...)
}

// commit returns the steps of a trial that another program has begun.
func (s *Service) commit() []opStep {
	return append([]opStep{
		{Name: "finalize", Undo: s.recordFailure}, // no Do: the other program has done it
		{Name: "try", Undo: s.endTrial},           // no Do: the other program has done it
	}, s.trial()...)
}

// trial returns the steps after "try".
func (s *Service) trial() []opStep {
	return []opStep{
		{Name: "reboot", Do: s.reboot, Undo: s.returnToOld, Effects: rebootsHost},
		{Name: "booted", Do: s.booted},                                    // no Undo: it changes nothing
		{Name: "health", Do: s.health, Effects: checksHealth},             // no Undo: it changes nothing
		{Name: "settle", Do: s.settle, Undo: s.decided, Effects: settles}, // the point of no return
	}
}

// register registers the operations with r. It returns their starters by kind.
func (s *Service) register(r *operation.Runner) map[string]operation.Starter[record] {
	all, back := change.Runnable(s.steps()), change.Runnable(s.back())
	stage, finalize := operation.Until(all, "stage"), operation.From(all, "finalize")
	start := map[string]operation.Starter[record]{}
	for name, steps := range map[string][]operation.Step[record]{
		opInstall: all, opInstallStage: stage, opInstallFinalize: finalize,
		opABUpdate: all, opABUpdateStage: stage, opABUpdateFinalize: finalize,
		opABRollback: back, opABRollbackStage: operation.Until(back, "stage"), opABRollbackFinalize: operation.From(back, "finalize"),
		OpCommit: change.Runnable(s.commit()), opCheckRoot: {{Name: "booted", Do: s.checkRoot}}, // no Undo: it changes nothing
	} {
		start[name] = operation.Register(r, operation.Kind[record]{Name: name, Steps: steps})
	}
	return start
}

// The kinds of operations in the journal.
const (
	opInstall            = "install"
	opInstallStage       = "install-stage"
	opInstallFinalize    = "install-finalize"
	opABUpdate           = "ab-update"
	opABUpdateStage      = "ab-update-stage"
	opABUpdateFinalize   = "ab-update-finalize"
	opABRollback         = "ab-rollback"
	opABRollbackStage    = "ab-rollback-stage"
	opABRollbackFinalize = "ab-rollback-finalize"
	OpCommit             = "commit"
	opCheckRoot          = "check-root"
)

// beginServicing records that nothing is staged and nothing has failed.
func (s *Service) beginServicing(ctx context.Context, r *opRun) error {
	for _, why := range r.State.Reasons {
		r.Logf(slog.LevelInfo, "%s", why)
	}
	return s.RecordStatus(ctx, "record begin", func(st *hoststate.Status) {
		change.Unstage(st)
		st.LastError = nil
	})
}

// recordFailure records the previous status of the host, with the error. It is the last Undo.
func (s *Service) recordFailure(ctx context.Context, r *opRun) error {
	op, err := s.Runner.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	last := change.LastErrorOf(op)
	if op.Failure != nil && strings.HasSuffix(op.Failure.Name, "RebootCheck") {
		last.RootDevice, last.ExpectedDevice = r.State.BootedFrom, r.State.BootedWanted
	}
	err = s.RecordStatus(ctx, "record failure", func(st *hoststate.Status) {
		change.Unstage(st)
		unTry(st)
		st.LastError = last
	})
	if err == nil {
		r.State.Ended = s.Runner.Life.Boot
		s.tidyForOld(ctx, r)
	}
	return err
}

// unTry changes st to the status before a trial.
func unTry(st *hoststate.Status) {
	switch st.Phase {
	case hoststate.TryingInstall:
		st.Phase, st.Spec, st.SpecOld = hoststate.Fresh{}, "", ""
	case hoststate.TryingABUpdate, hoststate.TryingABUpdateFailed, hoststate.TryingABRollback:
		st.Phase, st.Spec, st.SpecOld = hoststate.Settled{}, st.SpecOld, ""
	}
}

// recordStaged records the configuration as staged, for this or a later operation to
// finalize.
func (s *Service) recordStaged(ctx context.Context, r *opRun) error {
	phase := r.State.Purpose.staged()
	err := s.RecordStatus(ctx, "record staged", func(st *hoststate.Status) {
		if st.Phase != phase { // else this is a repetition
			st.SpecOld = st.Spec
		}
		st.Phase, st.Spec = phase, r.State.Asked.String()
		if r.State.Purpose == installs {
			st.SpecOld, st.ABActiveVolume = "", ""
			st.InstallIndex, st.DiskUUIDs = r.State.Index, toMap(r.State.Disks)
		}
		if len(r.State.Paths) > 0 {
			st.PartitionPaths = toMap(r.State.Paths)
		}
	})
	if err == nil {
		change.LogStaged(r, phase)
	}
	return err
}

// recordTrying records that the slot is finalized: the next boot is its trial.
func (s *Service) recordTrying(ctx context.Context, r *opRun) error {
	return s.RecordStatus(ctx, "record finalized", func(st *hoststate.Status) { st.Phase = r.State.Purpose.trying() })
}

// volumeOf returns the name of a slot in the host status, or "" on a host without pairs.
func volumeOf(s slot.Slot, pairs bool) hoststate.Volume {
	if !pairs {
		return ""
	}
	return hoststate.Volume(s.String())
}

// discard is the Undo of "image": it deletes what the operation fetched and copied.
func (s *Service) discard(ctx context.Context, r *opRun) error {
	s.tidyForOld(ctx, r)
	return nil
}

// tidyForOld deletes what the previous configuration does not need.
func (s *Service) tidyForOld(ctx context.Context, r *opRun) {
	runs, err := r.State.Old.Config()
	if err != nil {
		r.Logf(slog.LevelWarn, "what is not needed any more stays: %v", err)
		return
	}
	s.Tidy(ctx, r, runs)
}
