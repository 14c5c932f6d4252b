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

// patient is a connection to tridentd that repeats a call once, if nothing of the call has been
// passed on: a call may meet an idle tridentd in the moment in which that ends, and so the socket
// that nobody serves any more. gRPC itself repeats the calls that tridentd has refused to begin.
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

// comesBack waits, after a call that began at begin and has failed because there was no
// connection, until there is one. It reports whether there is one within p.again; at once false
// after any other error.
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
