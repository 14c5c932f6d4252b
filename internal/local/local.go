// Package local is what Trident can do where no daemon runs: on the machine of
// who writes a Host Configuration, in an image that is being built, in the first
// moments of a boot.
//
// What the API offers is asked through the API also here, over a socket that
// only this process knows and that has no name in the file system: there is one
// way to judge a configuration, and it cannot differ from the daemon's.
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

// A Server answers the calls of the API that need no host: Version, validation,
// handles of configurations. Of all others the answer is an error.
type Server struct {
	address  *net.UnixAddr
	server   *api.Server
	listener *api.Listener
	served   chan error
}

// Serve returns a server that answers this process until Close. version is what
// it says it is.
func Serve(version string) (*Server, error) {
	address := &net.UnixAddr{Name: "@trident-" + rand.Text(), Net: "unix"}
	socket, err := net.ListenUnix("unix", address)
	if err != nil {
		return nil, fmt.Errorf("serve in memory: %w", err)
	}
	logger := slog.New(slog.DiscardHandler)
	s := &Server{
		address: address, listener: api.Listen(socket, logger), served: make(chan error, 1),
		// There is no host: what would look for one below the root folder finds none.
		server: api.New(api.Config{Root: os.DevNull, Version: version, Logger: logger, AlsoUID: uint32(os.Geteuid())}),
	}
	go func() { s.served <- s.server.Serve(s.listener) }()
	return s, nil
}

// Dial connects to the server, for client.WithDialer.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", s.address.Name)
}

// Close ends all calls.
func (s *Server) Close() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	s.server.Stop(now, s.listener)
	return <-s.served
}
