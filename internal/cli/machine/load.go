package machine

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func newLoadCommand(a *command.App) *cobra.Command {
	return view[*machinev1.GetLoadResponse]{
		use: "load", short: "Show the load averages of the host",
		long: `Load shows the mean numbers of tasks that ran, could run or waited for a disk in the
last 1, 5 and 15 minutes, and how many tasks there are now.`,
		example: "  trident host load\n  trident host load --watch\n  trident host load --host web-1,web-2",
		doing:   "read the load of the host",
		ask: func(ctx context.Context, c *client.Client) (*machinev1.GetLoadResponse, error) {
			return c.System().GetLoad(ctx, &machinev1.GetLoadRequest{})
		},
		write: func(w *terminal.Table, l, _ *machinev1.GetLoadResponse, _ bool) {
			w.Field("1 minute", "%.2f", l.GetLoad1())
			w.Field("5 minutes", "%.2f", l.GetLoad5())
			w.Field("15 minutes", "%.2f", l.GetLoad15())
			w.Field("Tasks", "%d of %d can run", l.GetTasksRunnable(), l.GetTasksTotal())
		},
	}.command(a)
}
