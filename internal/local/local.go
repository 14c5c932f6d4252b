// Package local has what Trident can do without a daemon: on the machine of an author of
// a Host Configuration, in an image that is being built, early in a boot.
//
// For calls of the API it runs the API server in its own process, so that it judges a
// configuration as the daemon does. The server listens on an abstract unix socket with a
// random name, and admits only root and the user of this process.
package local

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/trident-project/trident/internal/api"
)

// A Server answers the calls of the API that need no host: Version, validation, handles
// of configurations. Other calls fail.
type Server struct {
	address  *net.UnixAddr
	server   *api.Server
	listener *api.Listener
	served   chan error
}

// Serve returns a server that answers until Close. version is the version that it states.
func Serve(version string) (*Server, error) {
	address := &net.UnixAddr{Name: "@trident-" + rand.Text(), Net: "unix"}
	socket, err := net.ListenUnix("unix", address)
	if err != nil {
		return nil, fmt.Errorf("serve in memory: %w", err)
	}
	logger := slog.New(slog.DiscardHandler)
	s := &Server{
		address: address, listener: api.Listen(socket, logger), served: make(chan error, 1),
		// There is no host: nothing exists below this root.
		server: api.New(api.Config{Root: os.DevNull, HostID: func() string { return "" }, Version: version, Logger: logger, AlsoUID: uint32(os.Geteuid())}),
	}
	go func() { s.served <- s.server.Serve(s.listener) }()
	return s, nil
}

// Dial connects to the server; use it with client.WithDialer.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", s.address.Name)
}

// Close cancels all calls and stops the server.
func (s *Server) Close() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	s.server.Stop(now, s.listener)
	return <-s.served
}
