package machine

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func newUptimeCommand(a *command.App) *cobra.Command {
	return view[*machinev1.GetUptimeResponse]{
		use: "uptime", short: "Show how long the host has been running, and its boot ID",
		example: "  trident host uptime\n  trident host uptime --label env=prod",
		doing:   "read the uptime of the host",
		ask: func(ctx context.Context, c *client.Client) (*machinev1.GetUptimeResponse, error) {
			return c.System().GetUptime(ctx, &machinev1.GetUptimeRequest{})
		},
		write: func(w *terminal.Table, u, _ *machinev1.GetUptimeResponse, _ bool) {
			w.Field("Uptime", "%s", span(u.GetUptime().AsDuration()))
			w.Field("Booted", "%s", terminal.FormatTime(u.GetBootTime()))
			w.Field("Boot ID", "%s", u.GetBootId())
		},
	}.command(a)
}
