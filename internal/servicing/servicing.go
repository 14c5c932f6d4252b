// Package servicing decides which operation a request needs and begins it: one of package
// runtime, on the running system, or one of package slots, which ends with a boot.
//
// Package operation runs the steps, so another daemon can continue an operation. The
// steps record a status in hoststate at three moments only: when servicing begins, when
// it is staged, and at its end.
package servicing

import (
	"sync"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/oplog"
	"github.com/trident-project/trident/internal/servicing/runtime"
	"github.com/trident-project/trident/internal/servicing/slots"
	"github.com/trident-project/trident/internal/servicing/slots/rebuild"
	"github.com/trident-project/trident/internal/servicing/slots/wholedisk"
)

// Service services one host.
type Service struct {
	*change.Host
	// Logs is the observer of operations that writes their logs.
	Logs    *oplog.Log
	runtime *runtime.Service
	slots   *slots.Service
	disk    *wholedisk.Service
	arrays  *rebuild.Service

	begin sync.Mutex // held from the read of the state until the operation has begun
}

// New makes the service of a host from its parts, which have one host, and registers their
// operations with the runner. It sets KindOf of logs.
func New(r *runtime.Service, s *slots.Service, d *wholedisk.Service, a *rebuild.Service, logs *oplog.Log) *Service {
	r.Register()
	s.Register()
	d.Register()
	a.Register()
	logs.KindOf = kindOf
	return &Service{Host: r.Host, Logs: logs, runtime: r, slots: s, disk: d, arrays: a}
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

// StreamRequest: see wholedisk.StreamRequest.
type StreamRequest = wholedisk.StreamRequest

// Ignored, in place of a hash, means that Trident does not check the hash.
const Ignored = wholedisk.Ignored

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
