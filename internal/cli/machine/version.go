package machine

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func newVersionCommand(a *command.App) *cobra.Command {
	return view[*machinev1.GetVersionResponse]{
		use: "version", short: "Show the name, the OS and the kernel of the host",
		example: "  trident host version\n  trident host version --host web-1,web-2",
		doing:   "read the version of the host",
		ask: func(ctx context.Context, c *client.Client) (*machinev1.GetVersionResponse, error) {
			return c.System().GetVersion(ctx, &machinev1.GetVersionRequest{})
		},
		write: func(w *terminal.Table, v, _ *machinev1.GetVersionResponse, isWide bool) {
			w.Field("Hostname", "%s", v.GetHostname())
			w.Field("OS", "%s", v.GetOsPrettyName())
			w.Field("Kernel", "%s %s", v.GetKernel(), v.GetKernelRelease())
			w.Field("Machine", "%s", v.GetMachine())
			if isWide {
				w.Field("OS ID", "%s %s", v.GetOsId(), v.GetOsVersionId())
				w.Field("Build", "%s", v.GetKernelVersion())
			}
		},
	}.command(a)
}
