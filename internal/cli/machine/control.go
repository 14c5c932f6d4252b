package machine

import (
	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
)

// controlCommands returns the commands about units, logs, files, packets and power, and about a host as a whole.
func controlCommands(a *command.App) []*cobra.Command {
	return []*cobra.Command{
		newServicesCommand(a, services), newServiceCommand(a),
		newLogsCommand(a, logs), newDmesgCommand(a, dmesg), newEventsCommand(a, events),
		newFilesCommand(a), newCaptureCommand(a, capture),
		newPowerCommand(a, "reboot", "Reboot the host", reboot), newPowerCommand(a, "shutdown", "Switch the host off", shutdown),
		newResetCommand(a, reset),
	}
}
