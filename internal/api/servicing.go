package api

import (
	"context"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
)

// Servicing is what changes a host. Each of the methods that begin an operation
// returns its ID once it is journaled, or "" when there was nothing to do.
type Servicing interface {
	Update(ctx context.Context, r UpdateRequest) (operationID string, err error)
	Finalize(ctx context.Context, callerReboots bool) (operationID string, err error)
	Commit(ctx context.Context, callerReboots bool) (operationID string, err error)
	Rollback(ctx context.Context, r RollbackRequest) (operationID string, err error)
	// Plan compares a configuration with the host.
	Plan(ctx context.Context, c *hostconfig.Config) (hostconfig.Change, error)
	// Outcome tells of an operation of servicing that has ended, or that waits for
	// a reboot.
	Outcome(ctx context.Context, operationID string) (Outcome, error)
}

// An UpdateRequest is a wish for a new configuration.
type UpdateRequest struct {
	Config          *hostconfig.Config
	Stage, Finalize bool
	CallerReboots   bool
}

// A RollbackRequest is a wish to go back. Finalize alone finalizes what is
// staged.
type RollbackRequest struct {
	Kind            hoststate.LinkKind // "" is any
	Stage, Finalize bool
	CallerReboots   bool
}

// ServicingKind is what an operation turned out to be.
type ServicingKind string

// The kinds of servicing.
const (
	NoServicing     ServicingKind = "none"
	RuntimeUpdate   ServicingKind = "runtime-update"
	ABUpdate        ServicingKind = "ab-update"
	CleanInstall    ServicingKind = "clean-install"
	ABRollback      ServicingKind = "manual-rollback-ab"
	RuntimeRollback ServicingKind = "manual-rollback-runtime"
)

// An Outcome is how an operation of servicing ended.
type Outcome struct {
	Kind ServicingKind
	// RebootNeeded: it takes effect with the next boot.
	RebootNeeded bool
	// Error is why the host was brought back to what it was, although the
	// operation itself came to its end.
	Error *hoststate.LastError
}

// noServicing is a daemon that cannot service its host.
type noServicing struct{}

func cannot(do string) error {
	return errkind.Errorf(errkind.Unsupported, "this daemon cannot %s", do)
}

func (noServicing) Update(context.Context, UpdateRequest) (string, error) {
	return "", cannot("update a host")
}
func (noServicing) Finalize(context.Context, bool) (string, error) {
	return "", cannot("update a host")
}
func (noServicing) Commit(context.Context, bool) (string, error) { return "", cannot("commit a host") }
func (noServicing) Rollback(context.Context, RollbackRequest) (string, error) {
	return "", cannot("roll a host back")
}
func (noServicing) Plan(context.Context, *hostconfig.Config) (hostconfig.Change, error) {
	return hostconfig.Change{}, cannot("compare a Host Configuration with a host")
}
func (noServicing) Outcome(context.Context, string) (Outcome, error) {
	return Outcome{}, cannot("service a host")
}
