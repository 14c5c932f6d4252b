// Package servicing decides what a request for the host comes to and begins it: an
// operation of package runtime, on the running system, or one of package slots, which ends
// with a boot.
//
// Package operation runs the steps, so another daemon can continue where one was stopped.
// The status in hoststate changes at three moments only: when servicing begins, when
// something is staged, and at the end.
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
	// Version is what this process is; it is recorded with every status.
	Version string
	Runner  *operation.Runner
	Store   *hoststate.Store
	Systemd systemd.Manager
	// Tools runs netplan and journalctl.
	Tools run.Runner
	// Machine is the host's disks and firmware.
	Machine Machine
	// Self services Trident itself, for an os.sysexts that has its image.
	Self   *selfservice.Service
	Logger *slog.Logger
	// Soak is how long a unit of a health check has to stay active once it is;
	// 0 stands for 10 s.
	Soak time.Duration
	// Touch, if set, is called in place of each change of the host, with the
	// change's name and the change. For the power-cut test.
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

	begin sync.Mutex // held while a request is weighed, and its operation begun
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

// UpdateRequest asks for a host to become what a configuration says.
type UpdateRequest struct {
	Config *hostconfig.Config
	// Stage allows to bring what is needed to the host; Finalize to put it into
	// effect. At least one of them.
	Stage, Finalize bool
	// CallerReboots: the host is not rebooted, where that is needed, but left for
	// the caller to reboot.
	CallerReboots bool
}

// RollbackRequest asks for a host to become what it was before.
type RollbackRequest struct {
	Kind            hoststate.LinkKind // what is expected to be undone; "" is anything
	Stage, Finalize bool               // as in UpdateRequest
	CallerReboots   bool
}

// What a plan is made of.
type (
	Kind        = change.Kind
	Plan        = change.Plan
	PlannedStep = change.PlannedStep
	Effect      = change.Effect
)

// What the slots and disks of a host need.
type (
	Machine       = slots.Machine
	StreamRequest = slots.StreamRequest
)

// RealMachine is the machine under the root folder of a host, usually "/".
func RealMachine(root, arch string) Machine { return slots.RealMachine(root, arch) }

// Ignored stands for a hash that nobody checks.
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

// Outcome is what came of an operation, so far.
type Outcome struct {
	Kind Kind
	// RebootNeeded: what it did takes effect in the next boot.
	RebootNeeded bool
	// Failure is why the host was brought back to what it was; nil if it was not.
	Failure *operation.Failure
	// ImageSHA384 is of the metadata of the image that was written, in hexadecimal;
	// empty where there was none.
	ImageSHA384 string
}
