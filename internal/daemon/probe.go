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
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// Probe checks that this tridentd could replace the running one: that it starts, can read
// datastore, a copy that it may change, can resume the unsettled operation in it, and
// answers on a socket beside it. Then Probe writes its version to out, as JSON. Probe needs
// neither root nor systemd, and changes nothing else. "" as datastore skips all but the
// start.
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
		Root: c.Root, HostID: func() string { return hostinfo.ID(c.Root) },
		Version: c.Version, Self: self, Servicing: host, Operations: runner, Store: store, Logger: c.Logger, Updates: updatesOf(c, store, self),
		Begin: func() func() { return func() {} }, AlsoUID: uint32(os.Geteuid()),
	})
	return probeServer(ctx, c, server, path+".sock")
}

// probeTimeout is how long a probe waits for an answer.
const probeTimeout = 20 * time.Second

// probeServer has the server answer one call.
func probeServer(ctx context.Context, c Config, server *api.Server, socket string) (err error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Through a descriptor of its folder: the path of a socket has at most 107 bytes
	// (unix(7)), and the path of the copy may be longer.
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
		err = errkind.Errorf(errkind.Internal, "the probed daemon reports version %s", version)
	}
	server.Stop(ctx, listener)
	return errors.Join(err, <-serveErr)
}
