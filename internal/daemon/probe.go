package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/api"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// Probe checks that this tridentd could take over: that it starts at all, that
// it can read a copy of the datastore (which it may change), that it knows how to
// carry on with what is unsettled in it, and that it answers on a socket, which
// it makes beside the copy. It prints who it is. It needs neither root nor
// systemd, and changes nothing else.
func Probe(ctx context.Context, c Config, datastore string, out io.Writer) error {
	if datastore != "" {
		if err := probeStore(ctx, c, datastore); err != nil {
			return fmt.Errorf("probe: %w", err)
		}
	}
	return json.NewEncoder(out).Encode(struct {
		Version string `json:"version"`
		OK      bool   `json:"ok"`
	}{c.Version, true})
}

func probeStore(ctx context.Context, c Config, path string) error {
	store, err := hoststate.Open(ctx, path)
	if err != nil {
		return err
	}
	defer store.Close()
	runner := operation.New(ctx, operation.Config{Journal: store, Logger: c.Logger})
	self, host := services(c, runner, store, path+".sock")
	if err := runner.Check(ctx); err != nil {
		return err
	}
	server := api.New(api.Config{
		Root: c.Root, Version: c.Version, Self: self, Servicing: host, Operations: runner, Store: store, Logger: c.Logger,
		Begin: func() func() { return func() {} }, AlsoUID: uint32(os.Geteuid()),
	})
	return probeServer(ctx, c, server, path+".sock")
}

// probeTimeout bounds the answer that a probe waits for.
const probeTimeout = 20 * time.Second

// probeServer has the server answer one call.
func probeServer(ctx context.Context, c Config, server *api.Server, socket string) (err error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// By way of its folder: the path of a socket may have 107 bytes only, and this one
	// is as deep below the root folder as the store.
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return err
	}
	defer dir.Close()
	socket = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(socket))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	listener := api.Listen(l, c.Logger)
	serveErr := make(chan error, 1)
	go func() { serveErr <- server.Serve(listener) }()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	version, err := api.Check(ctx, socket)
	if err == nil && version != c.Version {
		err = errkind.Errorf(errkind.Internal, "it answers that it is %s", version)
	}
	server.Stop(ctx, listener)
	return errors.Join(err, <-serveErr)
}
