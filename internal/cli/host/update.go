package host

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/proto/client"
)

type updateOptions struct{ configOptions }

const updateLong = `Update brings this host to a Host Configuration. Trident changes extensions, files
and the network while the host runs, and rolls back if a health check fails. For
any other difference Trident writes the other slot and boots it; commit keeps that
slot or returns to the previous one.

CONFIG is by default ` + defaultConfig + `. With --allowed-operations
finalize, update finalizes the staged update and only checks CONFIG. With "" it only
checks CONFIG.`

func newUpdateCommand(a *command.App, run func(context.Context, *updateOptions) error) *cobra.Command {
	o := &updateOptions{newConfigOptions(a)}
	cmd := &cobra.Command{
		Use:   "update [CONFIG]",
		Short: "Update this host to a Host Configuration",
		Long:  updateLong,
		Example: `  trident update host.yaml --plan
  trident update host.yaml
  trident update host.yaml --allowed-operations stage
  trident update host.yaml --allowed-operations finalize`,
	}
	o.complete(cmd, "only show the steps of the update, and the reasons", func(ctx context.Context) error { return run(ctx, o) })
	return cmd
}

func updateHost(ctx context.Context, o *updateOptions) error {
	o.inputs = []string{o.config}
	if o.plan {
		return o.showPlan(ctx, "plan update", func(c *client.Client, config *client.Config) (planned, error) {
			return c.Host().Plan(ctx, config)
		})
	}
	return o.service(ctx, "update the host", func(ctx context.Context, c *client.Client, fn func(*client.Event)) (client.Outcome, error) {
		return o.run(ctx, c, func(config *client.Config, how client.How) (client.Outcome, error) {
			return c.Host().Update(ctx, config, how, fn)
		})
	})
}
