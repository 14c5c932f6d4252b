package host

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/proto/client"
)

type installOptions struct {
	configOptions
	multiboot bool
}

const installLong = `Install writes the operating system of a Host Configuration to the disks of this
host and boots it. The data on these disks are lost: --plan shows which, and
changes nothing. Before install changes a disk, it checks all that it can check:
the image, the disks, the firmware, the tools.

CONFIG is by default ` + defaultConfig + `. With --allowed-operations
stage, install writes the disks and does not make them bootable; with finalize, it
makes a staged installation bootable. With "" it only checks CONFIG.`

func newInstallCommand(a *command.App, run func(context.Context, *installOptions) error) *cobra.Command {
	o := &installOptions{configOptions: newConfigOptions(a)}
	cmd := &cobra.Command{
		Use:   "install [CONFIG]",
		Short: "Install an operating system on this host",
		Long:  installLong,
		Example: `  trident install host.yaml --plan
  trident install host.yaml
  trident install host.yaml --allowed-operations stage`,
	}
	o.complete(cmd, "only show the steps of the installation, and the data that would be lost", func(ctx context.Context) error { return run(ctx, o) })
	cmd.Flags().BoolVar(&o.multiboot, "multiboot", false, "install beside the systems that the host has")
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
