package client

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/proto/errkind"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// patience spaces out attempts, and gives up after too long without success.
type patience struct {
	most  time.Duration
	pause time.Duration
	since time.Time // of the first failure in a row
}

func (p *patience) succeeded() { p.pause, p.since = 0, time.Time{} }

// wait waits for the next attempt; it returns false when it gives up or ctx ends. Pauses
// double and are random, so that the clients of a fleet do not return at the same time.
func (p *patience) wait(ctx context.Context) bool {
	now := time.Now()
	if p.since.IsZero() {
		p.since, p.pause = now, firstPause
	}
	if now.Sub(p.since) > p.most {
		return false
	}
	timer := time.NewTimer(p.pause/2 + rand.N(p.pause))
	defer timer.Stop()
	p.pause = min(2*p.pause, lastPause)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// readOnly reports whether a method only reads, so that the client may repeat it. A
// service configuration of gRPC gives up after five attempts, and waits for a missing
// socket.
func readOnly(method string) bool {
	switch method {
	case tridentv1.VersionService_Version_FullMethodName,
		setupv1.SetupService_Handshake_FullMethodName,
		selfv1.SelfService_GetStatus_FullMethodName,
		selfv1.SelfService_History_FullMethodName,
		selfv1.SelfService_CheckUpdates_FullMethodName,
		selfv1.SelfService_GetPolicy_FullMethodName,
		operationsv1.OperationsService_Get_FullMethodName,
		operationsv1.OperationsService_List_FullMethodName,
		hostv1.HostService_GetHost_FullMethodName,
		hostv1.HostService_PlanUpdate_FullMethodName,
		hostv1.HostService_PlanInstall_FullMethodName,
		hostv1.HostService_ValidateConfig_FullMethodName,
		machinev1.SystemService_GetVersion_FullMethodName,
		machinev1.SystemService_GetUptime_FullMethodName,
		machinev1.SystemService_GetLoad_FullMethodName,
		machinev1.SystemService_GetMemory_FullMethodName,
		machinev1.SystemService_GetCpus_FullMethodName,
		machinev1.SystemService_GetStat_FullMethodName,
		machinev1.SystemService_ListDisks_FullMethodName,
		machinev1.SystemService_ListNetworkDevices_FullMethodName,
		machinev1.SystemService_ListMounts_FullMethodName,
		machinev1.SystemService_GetArguments_FullMethodName,
		machinev1.FileService_DiskUsage_FullMethodName,
		machinev1.FileService_StatFile_FullMethodName,
		machinev1.MountService_ListShares_FullMethodName,
		machinev1.MountService_ListHolders_FullMethodName,
		machinev1.UnitService_ListUnits_FullMethodName,
		machinev1.UnitService_ShowUnit_FullMethodName,
		machinev1.ResetService_PlanReset_FullMethodName,
		tridentv1preview.StatusService_GetActiveVolume_FullMethodName,
		tridentv1preview.StatusService_GetLastError_FullMethodName,
		tridentv1preview.StatusService_GetProvisionedConfig_FullMethodName,
		tridentv1preview.StatusService_GetServicingConfig_FullMethodName,
		tridentv1preview.StatusService_GetServicingState_FullMethodName,
		tridentv1preview.ValidationService_GetRequiredServicingType_FullMethodName,
		tridentv1preview.ValidationService_ValidateHostConfiguration_FullMethodName,
		tridentv1preview.RollbackService_CheckRollback_FullMethodName,
		tridentv1preview.RollbackService_GetRollbackChain_FullMethodName,
		tridentv1preview.RollbackService_GetRollbackTarget_FullMethodName,
		healthpb.Health_Check_FullMethodName:
		return true
	}
	return false
}

// bounded gives a call without a deadline that of WithTimeout, but at least the given time.
func (c *Client) bounded(ctx context.Context, least time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || c.callTime <= 0 {
		return ctx, func() {}
	}
	most := max(least, c.callTime)
	return context.WithTimeoutCause(ctx, most, errkind.Errorf(errkind.Timeout, "tridentd at %s did not answer within %s", c.target, most))
}

// planTime is the default deadline of a plan, for which the daemon reads all of an image
// on its host.
const planTime = 30 * time.Minute

// caller makes calls over the current link.
type caller struct{ c *Client }

// Invoke implements grpc.ClientConnInterface. While the daemon is away it repeats reading
// calls, and others if they had no effect.
func (r caller) Invoke(ctx context.Context, method string, req, reply any, opts ...grpc.CallOption) error {
	return r.c.unary(ctx, readOnly(method), func(ctx context.Context, l *link) error {
		var trailer metadata.MD
		err := l.conn.Invoke(ctx, method, req, reply, append([]grpc.CallOption{grpc.Trailer(&trailer)}, opts...)...)
		return by(trailer, err)
	})
}

func (c *Client) unary(ctx context.Context, again bool, call func(context.Context, *link) error) error {
	ctx, cancel := c.bounded(ctx, 0)
	defer cancel()
	p := patience{most: c.callPatience}
	for {
		l, err := c.link(ctx)
		if err == nil {
			err = call(ctx, l)
		}
		if err == nil || !(again || notBegun(err)) || !lost(ctx, err) || c.hopeless() || !p.wait(ctx) {
			return c.explain(ctx, err)
		}
		c.logger.DebugContext(ctx, "call again", "error", err)
	}
}

// NewStream implements grpc.ClientConnInterface.
func (r caller) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	l, err := r.c.patientLink(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := l.conn.NewStream(ctx, desc, method, opts...)
	if err != nil {
		return nil, plain(err)
	}
	return plainStream{stream}, nil
}

// plainStream is a stream whose errors are for people.
type plainStream struct{ grpc.ClientStream }

// SendMsg implements grpc.ClientStream.
func (s plainStream) SendMsg(m any) error { return plain(s.ClientStream.SendMsg(m)) }

// RecvMsg implements grpc.ClientStream.
func (s plainStream) RecvMsg(m any) error { return plain(s.ClientStream.RecvMsg(m)) }

// plain returns a status with the daemon's message as its text, and any other error as it is.
func plain(err error) error {
	if st, ok := status.FromError(err); ok && err != nil {
		return statusError{st}
	}
	return err
}
