// Package slots has the operations on slots: an installation, an update into the other slot,
// a rollback to it, and the commit of a booted system. An operation that reboots the host
// continues in the system that boots.
package slots

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/servicing/slots/disks"
	"github.com/trident-project/trident/internal/servicing/slots/liveos"
	"github.com/trident-project/trident/internal/servicing/slots/loader"
	"github.com/trident-project/trident/internal/servicing/slots/newos"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
)

// Service has the operations on the slots of one host.
type Service struct {
	*change.Host
	disks  *disks.Disks
	live   *liveos.Live
	newOS  *newos.OS
	loader *loader.Loader

	reboots atomic.Bool // despite CallerReboots, because that caller is gone
	start   map[string]operation.Starter[record.Record]
}

// New returns the operations on the slots of d. linkTrident and handOverLogs are those of
// [newos.OS].
func New(d *disks.Disks, linkTrident func(root string) (version string, err error), handOverLogs func(ctx context.Context, operationID, dir string) error) *Service {
	l := &loader.Loader{Host: d.Host, Machine: d.Machine, Disks: d}
	d.Keys = l.Keys
	return &Service{
		Host: d.Host, disks: d, live: &liveos.Live{Host: d.Host}, loader: l,
		newOS: &newos.OS{Host: d.Host, Machine: d.Machine, LinkTrident: linkTrident, CheckBoot: l.CheckBoot, HandOverLogs: handOverLogs, Reopen: d.Reopen},
	}
}

// UseTPM replaces the TPM of this machine, as a test does.
func (s *Service) UseTPM(chip loader.Chip) { s.loader.TPM = chip }

// Places returns the files and folders that this package needs to undo an operation.
func Places() []string { return append(liveos.Places(), newos.Places()...) }

type opStep = change.Step[record.Record, record.Examined]

// steps returns the steps of an installation or an update into the other slot. Before "try"
// nothing boots the slot. In an update the old system is the default until "settle".
func (s *Service) steps() []opStep {
	return append([]opStep{
		{Name: "begin", Do: s.beginServicing, Undo: s.recordFailure},
		{Name: "management os", Do: record.Configured(s.live.SetUp), Undo: s.live.Restore, Effects: liveos.Effects}, // before "image", which may need this network
		{Name: "image", Do: s.checkImage, Undo: s.discard},
		{Name: "pre-servicing", Do: record.Configured(s.preServicing), Effects: scripts(hooks.Pre)}, // no Undo: nobody knows what a script has changed
		{Name: "partition", Do: record.Configured(s.partition), Effects: partitionEffects},          // no Undo: what the partitions contained is lost
		{Name: "write", Do: record.Configured(s.disks.Write), Effects: disks.WriteEffects},          // no Undo: nothing boots or mounts these partitions yet
		{Name: "post-provision", Do: s.verified(record.Configured(s.newOS.PostProvision)), Undo: s.newOS.Unmount, Effects: scripts(hooks.Provision)},
		{Name: "configure", Do: s.verified(s.newOS.Configure), Undo: s.newOS.Unmount, Effects: newos.ConfigureEffects},
		{Name: "post-configure", Do: s.verified(record.Configured(s.newOS.PostConfigure)), Undo: s.newOS.Unmount, Effects: scripts(hooks.Configure)},
		{Name: "labels", Do: s.verified(s.newOS.Label), Undo: s.newOS.Unmount, Effects: newos.LabelEffects},
		{Name: "seal", Do: record.Configured(s.loader.Seal), Undo: s.loader.Unseal, Effects: loader.SealEffects}, // before "boot files", so that its Undo runs when nothing boots the slot
		{Name: "boot files", Do: s.verified(record.Configured(s.loader.Stage)), Undo: s.forget, Effects: loader.StageEffects},
		{Name: "stage", Do: s.recordStaged}, // no Undo: that of "begin" records the previous status
		{Name: "finalize", Do: s.beginFinalize, Undo: s.recordFailure},
		{Name: "try", Do: s.verified(record.Configured(s.try)), Undo: s.forget, Effects: loader.TryEffects},
	}, s.trial()...)
}

// verified returns do, which reads the written partitions or makes them boot. Before do, after
// a power cut or in an operation that finalizes what an earlier one has staged, it compares
// verified partitions with their hash trees again.
func (s *Service) verified(do func(context.Context, *record.Run) error) func(context.Context, *record.Run) error {
	return func(ctx context.Context, r *record.Run) error {
		if err := record.Configured(s.disks.VerifyTrees)(ctx, r); err != nil {
			return err
		}
		return do(ctx, r)
	}
}

// back returns the steps of a rollback by command.
func (s *Service) back() []opStep {
	return append([]opStep{
		{Name: "begin", Do: s.beginServicing, Undo: s.recordFailure},
		{Name: "look", Do: s.checkRollback}, // no Undo: it changes nothing
		{Name: "stage", Do: s.recordStaged}, // no Undo: that of "begin" records the previous status
		{Name: "finalize", Do: s.beginFinalize, Undo: s.recordFailure},
		{Name: "try", Do: record.Configured(s.try), Undo: s.endTrial},
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
		{Name: "reboot", Do: record.Configured(s.reboot), Undo: record.Configured(s.returnToOld), Effects: change.RebootEffects[record.Examined]},
		{Name: "booted", Do: s.booted},                                                                                     // no Undo: it changes nothing
		{Name: "unlock", Do: record.Configured(s.loader.Confirm)},                                                          // no Undo: that of "seal" removes the tokens
		{Name: "health", Do: record.Configured(s.health), Effects: checksHealth},                                           // no Undo: it changes nothing
		{Name: "settle", Do: record.Configured(s.settle), Undo: record.Configured(s.decided), Effects: loader.KeepEffects}, // the point of no return
	}
}

// scripts returns the Effects of a step that runs the scripts of a point.
func scripts(point func(*hostconfig.Config, hostconfig.ServicingType) hooks.Point) func(*record.Examined) []change.Effect {
	return func(e *record.Examined) []change.Effect { return point(e.Config, e.Record.Purpose.On()).Effects() }
}

func checksHealth(e *record.Examined) []change.Effect {
	return hooks.HealthEffects(e.Config.Spec().Health, e.Record.Purpose.On())
}

// Register registers the operations with the runner of the host.
func (s *Service) Register() {
	s.CarriedBySlots = record.CarriedBySlots(s.searched, recordOf)
	s.start = map[string]operation.Starter[record.Record]{}
	all, back := change.Runnable(s.steps()), change.Runnable(s.back())
	stage, finalize := operation.Until(all, "stage"), operation.From(all, "finalize")
	for name, steps := range map[string][]operation.Step[record.Record]{
		opInstall: all, opInstallStage: stage, opInstallFinalize: finalize,
		opABUpdate: all, opABUpdateStage: stage, opABUpdateFinalize: finalize,
		opABRollback: back, opABRollbackStage: operation.Until(back, "stage"), opABRollbackFinalize: operation.From(back, "finalize"),
		OpCommit: change.Runnable(s.commit()), opCheckRoot: {{Name: "booted", Do: record.Configured(s.checkRoot)}}, // no Undo: it changes nothing
	} {
		s.start[name] = operation.Register(s.Runner, operation.Kind[record.Record]{Name: name, Steps: steps})
	}
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

// checkImage opens the image and finds, before a disk is changed, whatever would make a
// later step fail: the rules of the image, whether image, configuration and host fit
// together, the plan of the disks, scripts, and the OS section.
func (s *Service) checkImage(ctx context.Context, r *record.Run) error {
	if r.State.Purpose == record.Installs && !r.State.Beside {
		if err := liveos.CheckLive(s.Root); err != nil {
			return err
		}
	}
	e, err := s.examine(ctx, r)
	if err != nil {
		return err
	}
	plan := change.Plan{Kind: change.ABUpdate}
	if r.State.Purpose == record.Installs {
		plan.Kind = change.CleanInstall
	}
	r.Logf(slog.LevelInfo, "%s", s.planOf(r, e, plan))
	return nil
}

// examine returns the first fault that would make a later step fail and that can be known
// before a disk changes. It writes only files below Trident's folders of operations, and a
// variable of the firmware that it deletes again (see [loader.Loader.Check]).
//
// examine reads the files of the ESP and, of a local image that the host has room to unpack,
// those of the root file system (see [newos.OS.CheckTree]). It does not unpack an image from
// the network, which would take the room and the time of writing it. Later steps find the
// faults of such an image: a dangling link in the place of a file, or an SELinux policy
// without setfiles. Groups and units that any image lacks are found later, too, and so are
// faults of the new network if this host has no netplan.
func (s *Service) examine(ctx context.Context, r *record.Run) (*record.Examined, error) {
	return s.disks.Examine(ctx, r, s.newOS.CheckSetup, s.disks.CheckDevices, s.newOS.CopyConfigured, s.disks.CheckFormats,
		s.newOS.CheckParts, s.loader.Check, s.loader.CheckSeal, s.disks.CheckVerity, s.newOS.CheckImmutable, s.newOS.CheckTree, s.disks.ReadThrough)
}

// KnownImage is [disks.Disks.KnownImage].
func (s *Service) KnownImage(ctx context.Context, c *hostconfig.Config) (*hostconfig.Config, error) {
	return s.disks.KnownImage(ctx, c)
}

func (s *Service) preServicing(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	return hooks.Run(ctx, s.Host, r, r.ID, hooks.Pre(c, r.State.Purpose.On()))
}

func partitionEffects(e *record.Examined) []change.Effect {
	return append(loader.ClearEffects(e), disks.PartitionEffects(e)...)
}

// partition applies the plan to the disks. In an update it first makes the slot unbootable, and
// then removes its tokens from the encrypted volumes.
func (s *Service) partition(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	if r.State.Partitioned {
		return nil
	}
	if err := s.newOS.Unmount(ctx, r); err != nil {
		return err
	}
	if r.State.Purpose != record.Installs {
		err := s.loader.With(r, c, func(l loader.Keeper) error { return l.Forget(ctx, r.State.Slot) })
		if err != nil {
			return err
		}
		if err := s.loader.ForgetSeal(ctx, r, c); err != nil {
			return err
		}
	}
	if err := s.loader.ClearTPM(ctx, r, c); err != nil {
		return err
	}
	return s.disks.Partition(ctx, r, c)
}

// beginServicing records that nothing is staged and nothing has failed.
func (s *Service) beginServicing(ctx context.Context, r *record.Run) error {
	for _, why := range r.State.Reasons {
		r.Logf(slog.LevelInfo, "%s", why)
	}
	return s.RecordStatus(ctx, "record begin", func(st *hoststate.Status) {
		change.Unstage(st)
		st.LastError = nil
	})
}

// recordFailure records the previous status of the host, with the error. It is the last Undo.
func (s *Service) recordFailure(ctx context.Context, r *record.Run) error {
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
func (s *Service) recordStaged(ctx context.Context, r *record.Run) error {
	phase := r.State.Purpose.Staged()
	err := s.RecordStatus(ctx, "record staged", func(st *hoststate.Status) {
		if st.Phase != phase { // else this is a repetition
			st.SpecOld = st.Spec
		}
		st.Phase, st.Spec = phase, r.State.Asked.String()
		if r.State.Purpose == record.Installs {
			st.SpecOld, st.ABActiveVolume = "", ""
			st.InstallIndex, st.DiskUUIDs = r.State.Index, r.State.Disks.Map()
		}
		if len(r.State.Paths) > 0 {
			st.PartitionPaths = r.State.Paths.Map()
		}
	})
	if err == nil {
		change.LogStaged(r, phase)
	}
	return err
}

// recordTrying records that the slot is finalized: the next boot is its trial.
func (s *Service) recordTrying(ctx context.Context, r *record.Run) error {
	return s.RecordStatus(ctx, "record finalized", func(st *hoststate.Status) { st.Phase = r.State.Purpose.Trying() })
}

// volumeOf returns the name of a slot in the host status, or "" on a host without pairs.
func volumeOf(s slot.Slot, pairs bool) hoststate.Volume {
	if !pairs {
		return ""
	}
	return hoststate.Volume(s.String())
}

// discard is the Undo of "image": it deletes what the operation fetched and copied.
func (s *Service) discard(ctx context.Context, r *record.Run) error {
	s.tidyForOld(ctx, r)
	return nil
}

// tidyForOld deletes what the previous configuration does not need.
func (s *Service) tidyForOld(ctx context.Context, r *record.Run) {
	runs, err := r.State.Old.Config()
	if err != nil {
		r.Logf(slog.LevelWarn, "what is not needed any more stays: %v", err)
		return
	}
	s.Tidy(ctx, r, runs)
}
