package servicing

import (
	"context"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots"
)

// InstallRequest asks Trident to install an operating system on the disks of this host.
type InstallRequest struct {
	Config          *hostconfig.Config
	Stage, Finalize bool // as in UpdateRequest
	CallerReboots   bool
	// Multiboot asks to install beside other systems of the host, which keep their partitions,
	// their boot files and their places in the order of the firmware. The configuration has to
	// adopt a partition.
	Multiboot bool
}

// Install begins to install the system of a configuration. If that is staged already,
// Install begins to finalize it. The data on the disks of the configuration is lost.
//
// Errors: of kind Precondition on a provisioned host, Invalid for a configuration that
// cannot be installed, Busy.
func (s *Service) Install(ctx context.Context, req InstallRequest) (operationID string, err error) {
	id, err := s.decide(ctx, func(st change.State) (change.Begin, error) {
		asked, err := s.installable(st, req.Config)
		if err != nil {
			return nil, err
		}
		switch {
		case !req.Stage && !req.Finalize:
			return nil, errkind.Errorf(errkind.Invalid, "neither staging nor finalizing is allowed")
		case req.Multiboot && !adopts(asked):
			err := errkind.Errorf(errkind.Invalid, "an installation beside another system has to adopt partitions of it")
			return nil, errkind.WithName(errkind.WithHint(err, "Adopt at least the EFI system partition (storage.disks[].adoptedPartitions)."), errkind.NameMultibootWithoutAdoptedPartitions)
		case st.Phase == hoststate.StagedInstall && same(withImageHash(asked, st.Next), st.Next):
			if req.Finalize {
				return s.slots.Finalize(st, req.CallerReboots)
			}
			return s.nothing(st, "the installation is staged already"), nil
		case !req.Stage:
			return nil, unexpected(errkind.Errorf(errkind.Precondition, "the installation is not staged, and may not be staged now"))
		}
		return s.slots.Install(asked, req.Finalize, req.CallerReboots, req.Multiboot), nil
	})
	return id, wrap("install", err)
}

// FinalizeInstall begins to make the installation bootable that Install has staged.
func (s *Service) FinalizeInstall(ctx context.Context, callerReboots bool) (operationID string, err error) {
	id, err := s.decide(ctx, func(st change.State) (change.Begin, error) {
		if st.Phase != hoststate.StagedInstall {
			err := errkind.Errorf(errkind.Precondition, "no installation is staged: the host is in the state %s", st.Phase.State())
			return nil, errkind.WithHint(unexpected(err), "Stage it first. A live system in memory forgets at a reboot what is staged: finalize in the same boot.")
		}
		return s.slots.Finalize(st, callerReboots)
	})
	return id, wrap("finalize installation", err)
}

// installable returns c, completed, if it can be installed on a host in the state st.
func (s *Service) installable(st change.State, c *hostconfig.Config) (*hostconfig.Config, error) {
	if st.Phase != (hoststate.Fresh{}) && st.Phase != hoststate.StagedInstall {
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
	return asked, s.CheckDestinations(asked)
}

// adopts reports whether a configuration adopts a partition.
func adopts(c *hostconfig.Config) bool {
	return slices.ContainsFunc(c.Spec().Storage.Disks, func(d hostconfig.Disk) bool { return len(d.AdoptedPartitions) > 0 })
}

// Commit confirms the system on trial. If an operation of Trident booted it, Commit begins
// nothing: it returns that operation, which continues by itself or has ended in this boot.
// It returns "" if there is nothing to confirm.
func (s *Service) Commit(ctx context.Context, callerReboots bool) (operationID string, err error) {
	if op, ok, err := s.slots.OnTrial(ctx); err != nil || ok {
		if err == nil && !callerReboots {
			err = s.slots.TakeReboots(ctx, op)
		}
		return op.ID, wrap("commit", err)
	}
	st, err := s.State(ctx)
	if err != nil {
		return "", wrap("commit", err)
	}
	if _, trying := st.Phase.(hoststate.Trying); !trying {
		return "", nil
	}
	id, err := s.decideAny(ctx, func(st change.State) (change.Begin, error) { return s.slots.Commit(st, callerReboots) })
	return id, wrap("commit", err)
}

// CheckRoot begins an operation that checks whether the booted volume is the recorded one,
// and changes nothing. It fails with Precondition on a host that was never provisioned.
func (s *Service) CheckRoot(ctx context.Context) (operationID string, err error) {
	id, err := s.decideAny(ctx, func(st change.State) (change.Begin, error) {
		if st.Runs == nil {
			return nil, errkind.WithName(errkind.Errorf(errkind.Precondition, "this host was never provisioned"), errkind.NameHostNotProvisioned)
		}
		return s.slots.CheckRoot(st), nil
	})
	return id, wrap("check root", err)
}

// withImageHash returns c with the hash of its image, if c ignores the hash and other has
// the same image with its hash.
func withImageHash(c, other *hostconfig.Config) *hostconfig.Config {
	a, b := c.Spec().Image, other.Spec().Image
	if a == nil || b == nil || a.SHA384 != hostconfig.HashIgnored || a.URL != b.URL {
		return c
	}
	return c.Amend(func(spec *hostconfig.Spec) { spec.Image.SHA384 = b.SHA384 })
}

// StreamDisk begins to write an image (COSI 1.2 or later) onto the smallest disk of
// this host that it fits on, and to boot it. The previous data on that disk is lost.
func (s *Service) StreamDisk(ctx context.Context, req StreamRequest) (operationID string, err error) {
	id, err := s.decide(ctx, func(change.State) (change.Begin, error) { return s.disk.StreamDisk(req), nil })
	return id, wrap("stream disk", err)
}

// RebuildRAID begins to make the degraded arrays of the host whole again.
//
// Errors: of kind Precondition if the host was never provisioned, has no arrays, or has a
// system on trial, Busy. The operation finds what keeps an array from being rebuilt before
// it changes a disk.
func (s *Service) RebuildRAID(ctx context.Context) (operationID string, err error) {
	id, err := s.decide(ctx, s.arrays.Rebuild)
	return id, wrap("rebuild RAID arrays", err)
}

// RecoveryKey returns the recovery key that Trident has made for the encrypted volumes of an
// installation, and the ID of the installation; an empty id is that of the newest one. The error
// is of kind NotFound if Trident has made no key since the host has booted.
func (s *Service) RecoveryKey(ctx context.Context, id string) (operationID string, key []byte, err error) {
	op, err := s.installation(ctx, id)
	if err == nil {
		key, err = s.slots.RecoveryKey(op.ID)
	}
	if errkind.Of(err) == errkind.NotFound {
		err = errkind.WithHint(err, "Only the live system that installs has the key, until it reboots. If storage.encryption.recoveryKeyUrl is set, the key is in that file.")
	}
	return op.ID, key, wrap("get the recovery key", err)
}

// installation returns an installation of this host, the newest one if id is empty.
func (s *Service) installation(ctx context.Context, id string) (operation.Operation, error) {
	isInstallation := func(op operation.Operation) bool {
		does, _ := slots.KindOf(op.Kind)
		return does == CleanInstall
	}
	if id != "" {
		op, err := s.Runner.Get(ctx, id)
		if err == nil && !isInstallation(op) {
			err = errkind.Errorf(errkind.NotFound, "the operation %s is not an installation", id)
		}
		return op, err
	}
	ops, err := s.Runner.List(ctx, 1000, false)
	if err != nil {
		return operation.Operation{}, err
	}
	for _, op := range ops {
		if isInstallation(op) {
			return op, nil
		}
	}
	return operation.Operation{}, errkind.Errorf(errkind.NotFound, "this system has not begun an installation")
}
