// Package machine has the commands below trident host: they show what runs on the host, as
// the daemon reads it from the kernel.
package machine

import (
	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
)

// Command returns the group trident host.
func Command(a *command.App) *cobra.Command {
	group := command.Group("host", "See what runs on the host, and handle it: load, memory, disks, network, processes, mounts, services, logs, files",
		newVersionCommand(a),
		newUptimeCommand(a),
		newLoadCommand(a),
		newMemoryCommand(a),
		newCPUCommand(a),
		newStatCommand(a),
		newDisksCommand(a),
		newMountsCommand(a),
		newNetworkCommand(a),
		newNetstatCommand(a, netstat),
		newProcessesCommand(a, processes),
		newTopCommand(a, top),
	)
	group.AddCommand(append(mountCommands(a), controlCommands(a)...)...)
	return group
}
