package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/proto/client"
)

type updateOptions struct {
	servicingOptions
	config  string
	given   bool // config was named
	allowed allowedOperations
}

const updateLong = `Update brings this host to a Host Configuration. What that needs is decided by
what is different: extensions and the network change while the host runs; if a
health check fails afterwards the host goes back to what it was.

CONFIG is ` + defaultConfig + ` if it is left out. With
--allowed-operations finalize, what was staged before is finalized; a CONFIG that
is named is checked then, and not more. With --allowed-operations "" it is checked
and nothing is done.`

func newUpdateCommand(a *app, run func(context.Context, *updateOptions) error) *cobra.Command {
	o := &updateOptions{servicingOptions: newServicingOptions(a)}
	cmd := &cobra.Command{
		Use:   "update [CONFIG]",
		Short: "Bring this host to a Host Configuration",
		Long:  updateLong,
		Example: `  trident update host.yaml
  trident update host.yaml --allowed-operations stage
  trident update host.yaml --allowed-operations finalize`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.config, o.given = argument(args, defaultConfig), len(args) > 0
			return run(cmd.Context(), o)
		},
	}
	o.addFlags(cmd.Flags())
	o.allowed.addFlag(cmd)
	return cmd
}

func updateHost(ctx context.Context, o *updateOptions) error {
	return o.service(ctx, "update the host", o.run)
}

func (o *updateOptions) run(ctx context.Context, c *client.Client, fn func(*client.Event)) (out client.Outcome, err error) {
	stage, finalize := o.allowed.may()
	var text []byte
	if stage || !finalize || o.given {
		if text, err = readConfig(o.config); err != nil {
			return out, err
		}
	}
	if !stage {
		if text != nil {
			err = o.app.checkConfig(ctx, c, o.config, text)
		}
		if err != nil || !finalize {
			return out, err
		}
		return c.Host().Update(ctx, nil, o.allowed.how(), fn)
	}
	config, err := configOf(text)
	if err != nil {
		return out, err
	}
	return c.Host().Update(ctx, config, o.allowed.how(), fn)
}
