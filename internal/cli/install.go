package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/proto/client"
)

type installOptions struct {
	configOptions
	multiboot bool
}

const installLong = `Install writes the operating system of a Host Configuration to the disks of this
host and boots it. What is on these disks is lost: --plan shows what that is, and
changes nothing. It looks for everything that can be known before the disks are
changed: image, disks, firmware, tools.

CONFIG is ` + defaultConfig + ` if it is left out. With
--allowed-operations stage, everything is written and nothing boots it; with
finalize, what was staged before is made bootable. With "" CONFIG is checked and
nothing is done.`

func newInstallCommand(a *app, run func(context.Context, *installOptions) error) *cobra.Command {
	o := &installOptions{configOptions: newConfigOptions(a)}
	cmd := &cobra.Command{
		Use:   "install [CONFIG]",
		Short: "Install an operating system on this host",
		Long:  installLong,
		Example: `  trident install host.yaml --plan
  trident install host.yaml
  trident install host.yaml --allowed-operations stage`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.checkPlan(cmd); err != nil {
				return err
			}
			o.take(args)
			return run(cmd.Context(), o)
		},
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.multiboot, "multiboot", false, "install beside the systems that are there")
	o.addPlanFlag(cmd, "only show what would be done, and what of the disks would be lost")
	return cmd
}

func install(ctx context.Context, o *installOptions) error {
	o.inputs = []string{o.config}
	if o.plan {
		return o.showPlan(ctx, "plan installation", func(c *client.Client, config *client.Config) (planned, error) {
			return c.Host().PlanInstall(ctx, config)
		})
	}
	return o.service(ctx, "install the host", func(ctx context.Context, c *client.Client, fn func(*client.Event)) (client.Outcome, error) {
		return o.run(ctx, c, func(config *client.Config, how client.How) (client.Outcome, error) {
			how.Multiboot = o.multiboot
			return c.Host().Install(ctx, config, how, fn)
		})
	})
}
