package listen

import (
	"context"
	"io"
	"net"
	"sync"

	"github.com/trident-project/trident/proto/client"
)

// forwarder passes the connections of a unix socket to a host: each gets the next connection
// of the host.
type forwarder struct {
	socket net.Listener
	dial   func(context.Context) (client.HostConn, error)
	cancel context.CancelFunc
	all    sync.WaitGroup
}

// forward listens on path until close.
func forward(ctx context.Context, path string, dial func(context.Context) (client.HostConn, error)) (*forwarder, error) {
	socket, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &forwarder{socket: socket, dial: dial, cancel: cancel}
	f.all.Go(func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			f.all.Go(func() { f.pass(ctx, conn) })
		}
	})
	return f, nil
}

// close ends all connections, and returns when they have ended.
func (f *forwarder) close() {
	f.cancel()
	_ = f.socket.Close()
	f.all.Wait()
}

// pass copies both ways until one end closes. gRPC never closes one direction alone.
func (f *forwarder) pass(ctx context.Context, local net.Conn) {
	defer func() { _ = local.Close() }()
	host, err := f.dial(ctx)
	if err != nil {
		return
	}
	defer func() { _ = host.Close() }()
	ended := make(chan struct{}, 2)
	for _, ends := range [][2]net.Conn{{host, local}, {local, host}} {
		f.all.Go(func() {
			_, _ = io.Copy(ends[0], ends[1])
			ended <- struct{}{}
		})
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
