package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/observe"
)

// metricsSocket is the socket for readers of metrics, below the root folder. The daemon
// makes it itself, so that a reader neither starts a daemon nor keeps it from ending.
const metricsSocket = "run/trident/metrics.sock"

// newObserver returns the observer of this daemon.
func (d *Daemon) newObserver(ctx context.Context, c Config, datastore string) *observe.Observer {
	return observe.New(ctx, observe.Config{
		Version: c.Version, Logger: c.Logger,
		Active: func() bool {
			_, active := d.runner.Active()
			return active
		},
		Halted: func() bool { return d.runner.Halted() },
		Datastore: func(ctx context.Context) (observe.Datastore, error) {
			return d.datastoreHealth(ctx, datastore)
		},
	})
}

func (d *Daemon) datastoreHealth(ctx context.Context, path string) (observe.Datastore, error) {
	info, err := os.Stat(path)
	if err != nil {
		return observe.Datastore{}, fmt.Errorf("read the size of the datastore: %w", err)
	}
	damaged, err := d.store.Damaged()
	if err == nil {
		_, err = d.store.List(ctx, 1, false)
	}
	return observe.Datastore{Bytes: info.Size(), Damaged: len(damaged)}, err
}

// listenMetrics makes the socket on which root reads the metrics. If it fails, it only
// logs the error and returns nil.
func (d *Daemon) listenMetrics(root string) *net.UnixListener {
	l, err := listenOwn(filepath.Join(root, metricsSocket))
	if err != nil {
		d.logger.Warn("metrics cannot be read", "error", err)
		return nil
	}
	return l
}

// serveMetrics answers until the observer is closed.
func (d *Daemon) serveMetrics() {
	if d.metrics == nil {
		return
	}
	if err := d.observer.Serve(d.metrics); err != nil {
		d.logger.Warn("metrics cannot be read any more", "error", err)
	}
}

// closeObserver closes the observer and its socket.
func (d *Daemon) closeObserver() error {
	var err error
	if d.observer != nil {
		err = d.observer.Close()
	}
	if d.metrics != nil { // already closed if serveMetrics has run
		_ = d.metrics.Close()
	}
	return err
}
