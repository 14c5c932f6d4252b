package api

import (
	"context"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
)

// Servicing is what changes a host: a servicing.Service, or what stands in for
// one, so that the streams can be tested with outcomes that only hosts of other
// kinds have. Each of the methods that begin an operation returns its ID once it
// is journaled, or "" when there was nothing to do.
type Servicing interface {
	Update(ctx context.Context, req servicing.UpdateRequest) (operationID string, err error)
	Finalize(ctx context.Context, callerReboots bool) (operationID string, err error)
	Commit(ctx context.Context, callerReboots bool) (operationID string, err error)
	Rollback(ctx context.Context, req servicing.RollbackRequest) (operationID string, err error)
	Plan(ctx context.Context, c *hostconfig.Config) (hostconfig.Change, *hostconfig.Config, error)
	Outcome(op operation.Operation) (servicing.Outcome, bool)
}

// noServicing is a daemon that cannot service its host.
type noServicing struct{}

func cannot(do string) error {
	return errkind.Errorf(errkind.Unsupported, "this daemon cannot %s", do)
}

func (noServicing) Update(context.Context, servicing.UpdateRequest) (string, error) {
	return "", cannot("update a host")
}

func (noServicing) Finalize(context.Context, bool) (string, error) {
	return "", cannot("update a host")
}

func (noServicing) Commit(context.Context, bool) (string, error) { return "", cannot("commit a host") }

func (noServicing) Rollback(context.Context, servicing.RollbackRequest) (string, error) {
	return "", cannot("roll a host back")
}

func (noServicing) Plan(context.Context, *hostconfig.Config) (hostconfig.Change, *hostconfig.Config, error) {
	return hostconfig.Change{}, nil, cannot("compare a Host Configuration with a host")
}

func (noServicing) Outcome(operation.Operation) (servicing.Outcome, bool) {
	return servicing.Outcome{}, false
}
