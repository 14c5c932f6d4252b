// Package servicing decides which operation a request needs and begins it: one of package
// runtime, on the running system, or one of package slots, which ends with a boot.
//
// Package operation runs the steps, so another daemon can continue an operation. The
// steps record a status in hoststate at three moments only: when servicing begins, when
// it is staged, and at its end.
package servicing

import (
	"log/slog"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/runtime"
	"github.com/trident-project/trident/internal/servicing/slots"
	"github.com/trident-project/trident/internal/systemd"
)

// Config is what the service needs.
type Config struct {
	// Root is the root folder of the host, "/".
	Root string
	// Version is the version of this process; it is recorded with every status.
	Version string
	Runner  *operation.Runner
	Store   *hoststate.Store
	Systemd systemd.Manager
	// Tools runs netplan and journalctl.
	Tools run.Runner
	// Machine is the host's disks and firmware.
	Machine Machine
	// Self upgrades Trident itself, if os.sysexts has an image of it.
	Self   *selfservice.Service
	Logger *slog.Logger
	// Soak is how long a unit of a health check has to stay active after it became
	// active; 0 means 10 s.
	Soak time.Duration
	// Touch, if set, makes each change of the host: it calls change, which has this
	// name. For the power-cut test.
	Touch func(name string, change func() error) error
	// EtcIsReadOnly: see change.Host. For tests.
	EtcIsReadOnly func(root string) (bool, error)
}

// Service services one host.
type Service struct {
	*change.Host
	Self    *selfservice.Service
	runtime *runtime.Service
	slots   *slots.Service

	begin sync.Mutex // held from the read of the state until the operation has begun
}

// New makes the service and registers its operations with the runner.
func New(c Config) *Service {
	host := change.New(change.Host{
		Root: c.Root, Version: c.Version, Runner: c.Runner, Store: c.Store, Systemd: c.Systemd, Tools: c.Tools, Logger: c.Logger,
		Soak: c.Soak, Touch: c.Touch, EtcIsReadOnly: c.EtcIsReadOnly,
		Places: append(slots.Places(), selfservice.Places()...),
	})
	s := &Service{Host: host, Self: c.Self}
	s.Extensions = &extension.Store{Root: c.Root, Systemd: c.Systemd, Tools: c.Tools, Touch: c.Touch}
	s.runtime = &runtime.Service{Host: host, Self: c.Self}
	s.runtime.Register()
	s.slots = &slots.Service{Host: host, Machine: c.Machine, Self: c.Self, HandOverLogs: s.handOverLogs}
	s.slots.Register()
	return s
}

// UpdateRequest asks Trident to update the host to a configuration.
type UpdateRequest struct {
	Config *hostconfig.Config
	// Stage allows to prepare everything without effect, Finalize to put it into
	// effect. At least one has to be true.
	Stage, Finalize bool
	// CallerReboots: if the host needs a reboot, the caller reboots it, not Trident.
	CallerReboots bool
}

// RollbackRequest asks Trident to roll the host back to its previous state.
type RollbackRequest struct {
	Kind            hoststate.LinkKind // the expected kind of rollback; "" accepts any
	Stage, Finalize bool               // as in UpdateRequest
	CallerReboots   bool
}

// The types of a plan.
type (
	Kind        = change.Kind
	Plan        = change.Plan
	PlannedStep = change.PlannedStep
	Effect      = change.Effect
)

// The types of package slots that callers need.
type (
	Machine       = slots.Machine
	StreamRequest = slots.StreamRequest
)

// RealMachine returns the machine of the host with that root folder, usually "/".
func RealMachine(root, arch string) Machine { return slots.RealMachine(root, arch) }

// Ignored, in place of a hash, means that Trident does not check the hash.
const Ignored = slots.Ignored

// The kinds of servicing.
const (
	None            = change.None
	RuntimeUpdate   = change.RuntimeUpdate
	ABUpdate        = change.ABUpdate
	CleanInstall    = change.CleanInstall
	RuntimeRollback = change.RuntimeRollback
	ABRollback      = change.ABRollback
)

// UnsettledMark: see change.UnsettledMark.
const UnsettledMark = change.UnsettledMark

// Outcome is the result of an operation, so far.
type Outcome struct {
	Kind Kind
	// RebootNeeded: the operation waits for a reboot.
	RebootNeeded bool
	// Failure is why Trident undoes, or has undone, the operation; nil if it does not.
	Failure *operation.Failure
	// ImageSHA384 is the hash of the metadata of the written image, or else of the image
	// of the configuration, in hexadecimal; "" if there is none.
	ImageSHA384 string
}
