package api

import (
	"context"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
)

// Servicing changes a host. It is a servicing.Service; tests replace it for outcomes that
// only other hosts have.
type Servicing interface {
	changer
	planner
	reporter
	rebuilder
	resetter
	keeper
}

// keeper has what the host keeps besides the datastore.
type keeper interface {
	CarriedExtensions(ctx context.Context) ([]servicing.CarriedExtension, error)
	RecoveryKey(ctx context.Context, id string) (operationID string, key []byte, err error)
}

// changer begins the operations on a host. Its methods return the ID of the operation
// once it is journaled, or "" if there is nothing to do. Commit may return an earlier
// operation: one that continues in this boot, or has ended in it.
type changer interface {
	Update(ctx context.Context, req servicing.UpdateRequest) (operationID string, err error)
	Finalize(ctx context.Context, callerReboots bool) (operationID string, err error)
	Commit(ctx context.Context, callerReboots bool) (operationID string, err error)
	Rollback(ctx context.Context, req servicing.RollbackRequest) (operationID string, err error)
	Install(ctx context.Context, req servicing.InstallRequest) (operationID string, err error)
	FinalizeInstall(ctx context.Context, callerReboots bool) (operationID string, err error)
	StreamDisk(ctx context.Context, req servicing.StreamRequest) (operationID string, err error)
	CheckRoot(ctx context.Context) (operationID string, err error)
}

// planner says what a Host Configuration would change, and changes nothing.
type planner interface {
	RequiredKind(ctx context.Context, c *hostconfig.Config) (servicing.Kind, error)
	Plan(ctx context.Context, c *hostconfig.Config) (*servicing.Plan, error)
	PlanInstall(ctx context.Context, c *hostconfig.Config) (*servicing.Plan, error)
	PlanRebuild(ctx context.Context) (*servicing.Plan, error)
}

// reporter has the results of operations.
type reporter interface {
	Outcome(op operation.Operation) (servicing.Outcome, bool)
	// ImageSHA384 returns the hash of the host's image, or "".
	ImageSHA384(ctx context.Context) string
}
