package proxy

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// patient is a connection to tridentd that repeats a call once, if the gateway has sent nothing
// of the call. A call can arrive just as an idle tridentd exits, on a connection that no process
// serves any more. gRPC itself repeats the calls that tridentd has refused to begin.
type patient struct {
	*grpc.ClientConn
	again time.Duration // Server.againTime
}

// Invoke implements grpc.ClientConnInterface.
func (p patient) Invoke(ctx context.Context, method string, request, answer any, opts ...grpc.CallOption) error {
	begin := time.Now()
	var to peer.Peer // stays empty if the call was not passed on
	err := p.ClientConn.Invoke(ctx, method, request, answer, append(opts[:len(opts):len(opts)], grpc.Peer(&to))...)
	if to.Addr == nil && p.comesBack(ctx, err, begin) {
		err = p.ClientConn.Invoke(ctx, method, request, answer, opts...)
	}
	return err
}

// NewStream implements grpc.ClientConnInterface.
func (p patient) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	begin := time.Now()
	stream, err := p.ClientConn.NewStream(ctx, desc, method, opts...)
	if err != nil && p.comesBack(ctx, err, begin) {
		stream, err = p.ClientConn.NewStream(ctx, desc, method, opts...)
	}
	return stream, err
}

// comesBack waits for a connection after a call, which began at begin, has failed because there
// was none. It reports whether there is one within p.again. After any other error it returns
// false at once.
func (p patient) comesBack(ctx context.Context, err error, begin time.Time) bool {
	if status.Code(err) != codes.Unavailable || ctx.Err() != nil || time.Since(begin) > p.again {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, p.again)
	defer cancel()
	for {
		state := p.GetState()
		switch state {
		case connectivity.Ready:
			return true
		case connectivity.Shutdown:
			return false
		case connectivity.Idle:
			p.Connect()
		}
		if !p.WaitForStateChange(ctx, state) {
			return false
		}
	}
}
