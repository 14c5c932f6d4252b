package client

import (
	"context"

	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// PlanReset returns what Reset would do to the host, and the confirmation that Reset needs. It
// changes nothing.
func (h Host) PlanReset(ctx context.Context) (resp *machinev1.PlanResetResponse, err error) {
	err = h.c.unary(ctx, true, func(ctx context.Context, l *link) error {
		resp, err = machinev1.NewResetServiceClient(l.conn).PlanReset(ctx, &machinev1.PlanResetRequest{})
		return err
	})
	return resp, err
}

// Reset takes the host out of service: it removes what Host Configurations have brought to the
// running system, and records the host as not provisioned. confirmation is that of PlanReset;
// the error is of kind Precondition if the host has changed since. Events and errors are those
// of Watch.
func (h Host) Reset(ctx context.Context, confirmation string, fn func(*Event)) (*Operation, error) {
	return h.c.run(ctx, Source{}, fn, func(ctx context.Context, l *link) (*call, error) {
		stream, err := machinev1.NewResetServiceClient(l.conn).Reset(ctx, &machinev1.ResetRequest{Confirmation: confirmation})
		if err != nil {
			return nil, err
		}
		return &call{ClientStream: stream, next: events(stream.Recv)}, nil
	})
}
