package daemon

import "context"

// restartReplaced restarts the gateway of this host if it runs a program that has been replaced
// (selfservice.Service.RestartReplaced): at the start of the daemon, and after each operation.
// While an operation is unsettled it waits, because the version on trial may be rolled back. It
// returns when ctx ends.
func (d *Daemon) restartReplaced(ctx context.Context) {
	isChecked := false // since the last operation
	for {
		changed := d.runner.Changed()
		if _, busy := d.runner.Active(); busy {
			isChecked = false
		} else if !isChecked {
			isChecked = true
			if err := d.self.RestartReplaced(ctx); err != nil && ctx.Err() == nil {
				d.logger.Warn("the gateway may run a program that has been replaced", "error", err)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
