package host

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/local"
)

type startNetworkOptions struct {
	app          *command.App
	config, root string
}

func newStartNetworkCommand(a *command.App, run func(context.Context, *startNetworkOptions) error) *cobra.Command {
	o := &startNetworkOptions{app: a, config: defaultConfig}
	cmd := &cobra.Command{
		Use:     "start-network [CONFIG]",
		Short:   "Configure the network of a Host Configuration",
		Example: "  trident start-network host.yaml",
		Hidden:  true,
		Long: `Start-network configures the network of a Host Configuration for the management OS,
or else for the host, so that Trident can fetch an image. trident-network.service
runs it. It needs no daemon. CONFIG is by default
` + defaultConfig + `.`,
		Args: command.AtMostOne,
		RunE: command.Run(run, o, &o.config),
	}
	addRoot(cmd, &o.root)
	return cmd
}

func startNetwork(ctx context.Context, o *startNetworkOptions) error {
	if os.Geteuid() != 0 && o.root == "/" {
		err := errkind.Errorf(errkind.Denied, "start the network: only root may, and the caller is user ID %d", os.Geteuid())
		return command.AsUpstream(errkind.WithName(err, errkind.NameCheckRootPrivileges))
	}
	text, err := readConfig(ctx, o.config)
	started := false
	if err == nil {
		started, err = local.StartNetwork(ctx, o.root, text, run.Host{})
	}
	if err != nil {
		return command.AsUpstream(fmt.Errorf("start the network: %w", command.Interrupted(ctx, err)))
	}
	if !started {
		fmt.Fprintln(o.app.Stderr, "The Host Configuration has no network; everything stays as it is.")
	}
	return nil
}
