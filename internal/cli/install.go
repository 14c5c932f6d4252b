package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/proto/client"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
)

type installOptions struct {
	configOptions
	multiboot, plan bool
}

const installLong = `Install writes the operating system of a Host Configuration to the disks of this
host and boots it. What is on these disks is lost: --plan shows what that is, and
changes nothing.

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
			if o.plan && (o.allowed.given || o.detach || o.cancelOnInterrupt) {
				return usage(cmd, fmt.Errorf("--plan does nothing: --allowed-operations, --detach and --cancel-on-interrupt do not go with it"))
			}
			o.take(args)
			return run(cmd.Context(), o)
		},
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.multiboot, "multiboot", false, "install beside the systems that are there")
	cmd.Flags().BoolVar(&o.plan, "plan", false, "only show what would become of the disks, and what would be lost")
	return cmd
}

func install(ctx context.Context, o *installOptions) error {
	o.inputs = []string{o.config}
	if o.plan {
		return o.showPlan(ctx)
	}
	return o.service(ctx, "install the host", func(ctx context.Context, c *client.Client, fn func(*client.Event)) (client.Outcome, error) {
		return o.run(ctx, c, func(config *client.Config, how client.How) (client.Outcome, error) {
			how.Multiboot = o.multiboot
			return c.Host().Install(ctx, config, how, fn)
		})
	})
}

func (o *installOptions) showPlan(ctx context.Context) error {
	if err := o.checkFiles(); err != nil {
		return err
	}
	err := o.app.ask(ctx, "plan the installation", func(c *client.Client) error {
		text, err := readConfig(ctx, o.config)
		if err != nil {
			return err
		}
		config, err := configOf(text)
		if err != nil {
			return err
		}
		plan, err := c.Host().PlanInstall(ctx, config)
		if err != nil {
			return plain(err)
		}
		for _, f := range plan.GetWarnings() {
			fmt.Fprintln(o.app.stderr, findingText(configName(o.config), f))
		}
		return o.app.show(plan, func(w *table) { writePlan(w, plan) })
	})
	return asUpstream(errors.Join(err, o.writeFiles(ctx, err)))
}

func writePlan(w *table, plan *hostv1.PlanInstallResponse) { w.text(plan.GetText()) }
