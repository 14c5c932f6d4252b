package client

import (
	"context"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// patience spaces out attempts, until too much time has gone by without
// success.
type patience struct {
	most  time.Duration
	pause time.Duration
	since time.Time // of the first failure in a row
}

func (p *patience) succeeded() { p.pause, p.since = 0, time.Time{} }

// wait returns false when it is time to give up.
func (p *patience) wait(ctx context.Context) bool {
	now := time.Now()
	if p.since.IsZero() {
		p.since, p.pause = now, firstPause
	}
	if now.Sub(p.since) > p.most {
		return false
	}
	timer := time.NewTimer(p.pause)
	defer timer.Stop()
	p.pause = min(2*p.pause, lastPause)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// readOnly methods can be called twice. It is a table of ours rather than a
// service configuration of gRPC because that gives up after five attempts, and
// waits for a socket that is not there.
func readOnly(method string) bool {
	switch method {
	case tridentv1.VersionService_Version_FullMethodName,
		selfv1.SelfService_GetStatus_FullMethodName,
		selfv1.SelfService_History_FullMethodName,
		operationsv1.OperationsService_Get_FullMethodName,
		operationsv1.OperationsService_List_FullMethodName,
		healthpb.Health_Check_FullMethodName:
		return true
	}
	return false
}

// unary tries reading calls again while the daemon is away, and makes errors
// readable. A call that changes something and that the daemon has not begun is
// tried again by gRPC itself.
func (c *Client) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	p := patience{most: c.callPatience}
	for {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if err == nil || !readOnly(method) || !lost(ctx, err) || c.hopeless() || !p.wait(ctx) {
			return c.explain(ctx, err)
		}
		c.logger.Debug("call again", "method", method, "error", err)
	}
}
