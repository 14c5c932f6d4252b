package api

import (
	"context"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
)

// Servicing changes a host. It is a servicing.Service; tests replace it for outcomes that
// only other hosts have. The methods that begin an operation return its ID once it is
// journaled, or "" if there is nothing to do. Commit may return an earlier operation: one
// that continues in this boot, or has ended in it.
type Servicing interface {
	Update(ctx context.Context, req servicing.UpdateRequest) (operationID string, err error)
	Finalize(ctx context.Context, callerReboots bool) (operationID string, err error)
	Commit(ctx context.Context, callerReboots bool) (operationID string, err error)
	Rollback(ctx context.Context, req servicing.RollbackRequest) (operationID string, err error)
	Install(ctx context.Context, req servicing.InstallRequest) (operationID string, err error)
	FinalizeInstall(ctx context.Context, callerReboots bool) (operationID string, err error)
	StreamDisk(ctx context.Context, req servicing.StreamRequest) (operationID string, err error)
	CheckRoot(ctx context.Context) (operationID string, err error)
	RequiredKind(ctx context.Context, c *hostconfig.Config) (servicing.Kind, error)
	Plan(ctx context.Context, c *hostconfig.Config) (*servicing.Plan, error)
	PlanInstall(ctx context.Context, c *hostconfig.Config) (*servicing.Plan, error)
	Outcome(op operation.Operation) (servicing.Outcome, bool)
	// ImageSHA384 returns the hash of the host's image, or "".
	ImageSHA384(ctx context.Context) string
}

// noServicing is the Servicing of a daemon that cannot service its host.
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

func (noServicing) Install(context.Context, servicing.InstallRequest) (string, error) {
	return "", cannot("install a host")
}

func (noServicing) FinalizeInstall(context.Context, bool) (string, error) {
	return "", cannot("install a host")
}

func (noServicing) StreamDisk(context.Context, servicing.StreamRequest) (string, error) {
	return "", cannot("write a disk from an image")
}

func (noServicing) CheckRoot(context.Context) (string, error) {
	return "", cannot("check the root file system of a host")
}

func (noServicing) PlanInstall(context.Context, *hostconfig.Config) (*servicing.Plan, error) {
	return nil, cannot("plan an installation")
}

func (noServicing) Plan(context.Context, *hostconfig.Config) (*servicing.Plan, error) {
	return nil, cannot("compare a Host Configuration with a host")
}

func (noServicing) RequiredKind(context.Context, *hostconfig.Config) (servicing.Kind, error) {
	return servicing.None, cannot("compare a Host Configuration with a host")
}

func (noServicing) ImageSHA384(context.Context) string { return "" }

func (noServicing) Outcome(operation.Operation) (servicing.Outcome, bool) {
	return servicing.Outcome{}, false
}
