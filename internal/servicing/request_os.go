package servicing

import (
	"context"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/servicing/change"
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
	id, err := s.decide(ctx, func(st change.State) (change.Begin, error) {
		asked, err := s.installable(st, req.Config)
		if err != nil {
			return nil, err
		}
		switch {
		case !req.Stage && !req.Finalize:
			return nil, errkind.Errorf(errkind.Invalid, "neither staging nor finalizing is allowed")
		case req.Multiboot:
			return nil, multiboot(asked)
		case st.Phase == hoststate.StagedInstall && same(withImageHash(asked, st.Next), st.Next):
			if req.Finalize {
				return s.slots.Finalize(st, req.CallerReboots)
			}
			return s.nothing(st, "the installation is staged already"), nil
		case !req.Stage:
			return nil, unexpected(errkind.Errorf(errkind.Precondition, "the installation is not staged, and may not be staged now"))
		}
		return s.slots.Install(asked, req.Finalize, req.CallerReboots), nil
	})
	return id, wrap("install", err)
}

// FinalizeInstall begins to make bootable what is staged by Install.
func (s *Service) FinalizeInstall(ctx context.Context, callerReboots bool) (operationID string, err error) {
	id, err := s.decide(ctx, func(st change.State) (change.Begin, error) {
		if st.Phase != hoststate.StagedInstall {
			err := errkind.Errorf(errkind.Precondition, "no installation is staged: the host is in the state %s", st.Phase.State())
			return nil, errkind.WithHint(unexpected(err), "Stage it first, in the same boot of a live system that forgets what it has staged.")
		}
		return s.slots.Finalize(st, callerReboots)
	})
	return id, wrap("finalize installation", err)
}

// installable is a configuration, completed, that can be installed on the host.
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

func multiboot(c *hostconfig.Config) error {
	for _, d := range c.Spec().Storage.Disks {
		if len(d.AdoptedPartitions) > 0 {
			return errkind.Errorf(errkind.Unsupported, "this version of Trident cannot install beside another system yet")
		}
	}
	return errkind.WithName(errkind.Errorf(errkind.Invalid, "an installation beside another system has to adopt partitions of it"), errkind.NameMultibootWithoutAdoptedPartitions)
}

// Commit confirms what was booted. An operation of ours goes on by itself after the
// boot: then the result is that operation, or the one that has ended in this boot.
// It is "" where there is nothing to confirm.
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

// CheckRoot begins an operation that changes nothing and says whether the volume
// that is booted is the one that is recorded.
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
// this host that it fits on, and to boot it. What was on that disk is lost.
func (s *Service) StreamDisk(ctx context.Context, req StreamRequest) (operationID string, err error) {
	id, err := s.decide(ctx, func(change.State) (change.Begin, error) { return s.slots.StreamDisk(req), nil })
	return id, wrap("stream disk", err)
}
