package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

type installOptions struct {
	servicingOptions
	config    string
	allowed   allowedOperations
	multiboot bool
}

func newInstallCommand(a *app, run func(context.Context, *installOptions) error) *cobra.Command {
	o := &installOptions{servicingOptions: newServicingOptions(a)}
	cmd := &cobra.Command{
		Use:   "install [CONFIG]",
		Short: "Install an operating system on this host",
		Long: `Install writes the operating system of a Host Configuration to the disks of this
host and boots it. CONFIG is ` + defaultConfig + ` if it is left out.`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.config = argument(args, defaultConfig)
			return run(cmd.Context(), o)
		},
	}
	o.addFlags(cmd.Flags())
	o.allowed.addFlag(cmd)
	cmd.Flags().BoolVar(&o.multiboot, "multiboot", false, "install beside the systems that are there")
	return cmd
}

func install(ctx context.Context, o *installOptions) error {
	return o.service(ctx, "install the host", func(ctx context.Context, c *client.Client, fn func(*client.Event)) (client.Outcome, error) {
		text, err := readConfig(o.config)
		if err != nil {
			return client.Outcome{}, err
		}
		if stage, finalize := o.allowed.may(); !stage && !finalize {
			return client.Outcome{}, o.app.checkConfig(ctx, c, o.config, text)
		}
		if o.multiboot { // the API has no field for it
			return client.Outcome{}, errkind.Errorf(errkind.Unsupported, "this version of Trident cannot install beside other systems yet")
		}
		config, err := configOf(text)
		if err != nil {
			return client.Outcome{}, err
		}
		return c.Host().Install(ctx, config, o.allowed.how(), fn)
	})
}
