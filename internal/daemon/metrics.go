package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/observe"
)

// metricsSocket is where metrics are read, below the root folder. It is the
// daemon's own and no unit's: who reads numbers must not start a daemon that has
// none, nor keep it.
const metricsSocket = "run/trident/metrics.sock"

// newObserver looks on at this daemon.
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
		return observe.Datastore{}, fmt.Errorf("look at the datastore: %w", err)
	}
	damaged, err := d.store.Damaged()
	if err == nil {
		_, err = d.store.List(ctx, 1, false)
	}
	return observe.Datastore{Bytes: info.Size(), Damaged: len(damaged)}, err
}

// listenMetrics makes the socket on which root reads the metrics. That it cannot
// be made keeps nobody from work: nil then.
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

// closeObserver lets go of what the observer has.
func (d *Daemon) closeObserver() error {
	var err error
	if d.observer != nil {
		err = d.observer.Close()
	}
	if d.metrics != nil { // closed by the observer, unless nobody was served
		_ = d.metrics.Close()
	}
	return err
}
