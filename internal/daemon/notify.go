package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/api"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/systemd"
)

// notify sends a state to systemd. It only logs an error.
func (d *Daemon) notify(state string) {
	if err := systemd.Notify(state); err != nil {
		d.logger.Warn("notify", "error", err)
	}
}

// showStatus keeps the status line of the unit up to date, until ctx ends.
func (d *Daemon) showStatus(ctx context.Context) {
	lastStatus := ""
	for {
		changed := d.runner.Changed()
		status := "Waiting for calls"
		if id, ok := d.runner.Active(); ok {
			if op, err := d.runner.Get(ctx, id); err == nil {
				status = statusOf(op)
			}
		}
		if status != lastStatus {
			d.notify("STATUS=" + status)
			lastStatus = status
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// statusOf returns the status line for an operation.
func statusOf(op operation.Operation) string {
	status := op.Summary + ": " + op.Step + " (" + op.ID + ")"
	if op.Halted != nil {
		status = "Halted, and tries again: " + op.Halted.Cause.Message + "; " + status
	}
	return strings.Join(strings.Fields(status), " ") // a line break would begin another variable
}

// feedWatchdog notifies systemd's watchdog as long as the runner of operations does not
// block and the socket answers, or is removed (see recreateSocket). Else systemd kills
// the daemon.
func (d *Daemon) feedWatchdog(ctx context.Context) {
	limit, err := systemd.Watchdog()
	if err != nil {
		d.logger.Warn("no watchdog", "error", err)
	}
	if limit == 0 {
		return
	}
	feedWhile(ctx, limit, func(ctx context.Context) error {
		err := d.checkAlive(ctx, limit/3)
		if err != nil && ctx.Err() == nil {
			d.logger.Error("the daemon does not answer itself", "error", err)
		}
		return err
	}, func() { d.notify("WATCHDOG=1") })
}

// feedWhile calls signal after each check that succeeds, six checks per limit at most. A
// check takes up to a third of limit, so between two signals two checks may fail within
// limit: a very busy host answers late.
func feedWhile(ctx context.Context, limit time.Duration, check func(context.Context) error, signal func()) {
	tick := time.NewTicker(limit / 6)
	defer tick.Stop()
	for {
		if check(ctx) == nil {
			signal()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (d *Daemon) checkAlive(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	d.runner.Active()
	if _, err := os.Lstat(d.socket); errors.Is(err, fs.ErrNotExist) {
		d.recreateSocket(ctx)
		return nil
	}
	d.socketMisses = 0
	_, err := api.Check(ctx, d.socket)
	return err
}

// recreateSocket has systemd make the socket file again that somebody removed, if systemd
// made it. That restarts this daemon, whose socket has no path any more; the next daemon
// resumes the operation. It acts at the second miss, because during a trial the rescuer
// does the same, and checks more often.
func (d *Daemon) recreateSocket(ctx context.Context) {
	const unit = "tridentd.socket"
	d.socketMisses++
	d.logger.Error("the socket is gone: somebody removed its file", "socket", d.socket, "restart", unit)
	if !d.socketIsSystemds || d.socketMisses < 2 {
		return
	}
	d.socketMisses = 0
	if err := d.systemd.Restart(ctx, unit); err != nil {
		d.logger.Error("recreate the socket", "error", err)
	}
}
