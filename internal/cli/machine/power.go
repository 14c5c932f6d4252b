package machine

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type powerOptions struct {
	app   *command.App
	force bool
}

func newPowerCommand(a *command.App, use, short string, run func(context.Context, *powerOptions) error) *cobra.Command {
	o := &powerOptions{app: a}
	cmd := &cobra.Command{
		Use: use, Short: short, Example: "  trident host " + use,
		Long: short + `. The daemon refuses it while an operation of Trident is past its point
of no return, and while a program prevents it (systemd-inhibit --list). The command does not
wait for the host.`,
		Args: command.Exactly(), RunE: command.Run(run, o),
	}
	cmd.Flags().BoolVar(&o.force, "force", false, "although a program prevents it")
	return cmd
}

func reboot(ctx context.Context, o *powerOptions) error {
	return command.Print(ctx, o.app, "reboot the host", func(c *client.Client) (*machinev1.RebootResponse, error) {
		return c.Power().Reboot(ctx, &machinev1.RebootRequest{IgnoreInhibitors: o.force})
	}, func(w *terminal.Table, _ *machinev1.RebootResponse) { w.Line("The host reboots.") })
}

func shutdown(ctx context.Context, o *powerOptions) error {
	return command.Print(ctx, o.app, "switch off the host", func(c *client.Client) (*machinev1.ShutdownResponse, error) {
		return c.Power().Shutdown(ctx, &machinev1.ShutdownRequest{IgnoreInhibitors: o.force})
	}, func(w *terminal.Table, _ *machinev1.ShutdownResponse) { w.Line("The host switches itself off.") })
}
