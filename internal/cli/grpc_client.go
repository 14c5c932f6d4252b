package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

// newGRPCClientCommand is upstream's other way to the same commands: there most
// of them go past the daemon, and these go through it. Here all do.
func newGRPCClientCommand(a *app) *cobra.Command {
	cmd := newGroup("grpc-client", "Upstream's name for commands that ask the daemon",
		newInstallCommand(a, install),
		newUpdateCommand(a, updateHost),
		newCommitCommand(a, commit),
		newListenCommand(),
		newRebuildRaidCommand(a, rebuildRaid),
		newStartNetworkCommand(a, startNetwork),
		newGetCommand(a, get),
		newValidateCommand(a, true, validate),
		newRollbackCommand(a, rollback),
		newStreamDiskCommand(a, streamDisk),
		newVersionCommand(a, printVersions),
	)
	cmd.Hidden = true
	// Of the group alone: its commands have other flags of that letter.
	cmd.Flags().StringVarP(&a.server, "server", "s", "unix://"+defaultSocket, "the daemon's socket")
	return cmd
}

func newListenCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "listen",
		Short:  "Not there: upstream names it and does not have it either",
		Hidden: true,
		Args:   exactly(),
		RunE: func(*cobra.Command, []string) error {
			return asUpstream(errkind.WithHint(errkind.Errorf(errkind.Unsupported, "there is no such command"),
				"to see what the daemon does, use: trident operation watch"))
		},
	}
}

type streamDiskOptions struct {
	servicingOptions
	url, hash string
}

func newStreamDiskCommand(a *app, run func(context.Context, *streamDiskOptions) error) *cobra.Command {
	o := &streamDiskOptions{servicingOptions: newServicingOptions(a)}
	cmd := &cobra.Command{
		Use:     "stream-disk URL",
		Aliases: []string{"stream-image"},
		Short:   "Write a whole disk from an image",
		Long: `Stream-disk writes an image (COSI 1.2 or later) to the smallest disk of this host
that it fits on, and boots it. What is on that disk is lost, and what is booted
knows nothing of the one who wrote it.`,
		Args: exactly("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.url = args[0]
			return run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.hash, "hash", "", "the hash of the image's metadata: sha384:HEX, or ignored")
	o.addFlags(cmd.Flags())
	return cmd
}

func streamDisk(ctx context.Context, o *streamDiskOptions) error {
	return o.service(ctx, "write the disk", func(ctx context.Context, c *client.Client, fn func(*client.Event)) (client.Outcome, error) {
		return c.Host().StreamDisk(ctx, o.url, o.hash, client.How{}, func(e *client.Event) {
			if e.GetChange().GetWaiting() != "reboot" { // nobody watches on from there
				fn(e)
			}
		})
	})
}
