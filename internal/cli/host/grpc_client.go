// Package host has the commands that service the host, those of upstream among them, and the
// commands that upstream's units and image builders run.
package host

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/machine"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

// Commands returns the commands that upstream has, upstream's group of those that call the
// daemon, and the group of the running system. Upstream's top-level commands service the host
// without the daemon; ours all call it.
func Commands(a *command.App) []*cobra.Command {
	local := command.OnThisHost(newListenCommand(), newStartNetworkCommand(a, startNetwork))
	group := command.Group("grpc-client", "Upstream's name for the commands that call the daemon", append(append(calls(a), local...),
		newValidateCommand(a, true, validate), newStreamDiskCommand(a, streamDisk))...)
	group.Hidden = true
	a.AddServer(group)
	local = command.OnThisHost(newStartNetworkCommand(a, startNetwork), newValidateCommand(a, false, validate),
		newOfflineInitializeCommand(a, offlineInitialize), newDiagnoseCommand(a, collectDiagnostics), newDaemonCommand(a, becomeDaemon))
	return append(append(calls(a), group, machine.Command(a)), local...)
}

// calls returns the commands that upstream has twice: at the top and in its group.
func calls(a *command.App) []*cobra.Command {
	return []*cobra.Command{
		newInstallCommand(a, install), newUpdateCommand(a, updateHost), newCommitCommand(a, commit), newRollbackCommand(a, rollback),
		newRebuildRaidCommand(a, rebuildRaid), newGetCommand(a, get), newVersionCommand(a, printVersions),
	}
}

func newListenCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "listen",
		Short:   "Unsupported: upstream has this name and no such command",
		Example: "  trident grpc-client listen",
		Hidden:  true,
		Args:    command.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			return command.AsUpstream(errkind.WithHint(errkind.Errorf(errkind.Unsupported, "Trident has no command listen"),
				"to see what the daemon does, use: trident operation watch"))
		},
	}
}

type streamDiskOptions struct {
	servicingOptions
	url, hash  string
	unverified bool
	within     time.Duration
}

func newStreamDiskCommand(a *command.App, run func(context.Context, *streamDiskOptions) error) *cobra.Command {
	o := &streamDiskOptions{servicingOptions: newServicingOptions(a)}
	cmd := &cobra.Command{
		Use:     "stream-disk URL",
		Aliases: []string{"stream-image"},
		Short:   "Write a whole disk from an image",
		Example: "  trident grpc-client stream-disk https://example.com/os.cosi",
		Long: `Stream-disk writes an image (COSI 1.2 or later) to the smallest disk of this host
that the image fits on, and boots it. The data on that disk are lost. The new system
has no record of this operation.`,
		Args: command.Exactly("URL"),
		RunE: command.Run(run, o, &o.url),
	}
	cmd.Flags().StringVar(&o.hash, "hash", "", "the hash of the image's metadata: sha384:HEX, or ignored")
	cmd.Flags().BoolVar(&o.unverified, "allow-unverified-http", false, "write an image from an http URL without a hash, although anybody on the network can change it")
	cmd.Flags().DurationVar(&o.within, "fetch-timeout", 0, "the longest time of each step that reads the image (default no limit)")
	o.addFlags(cmd.Flags())
	return cmd
}

// checkHash refuses an image from an http URL without a hash, which anybody on the network
// could replace, and warns of any other image without a hash.
func (o *streamDiskOptions) checkHash() error {
	if o.hash != "" && o.hash != "ignored" {
		return nil
	}
	u, err := url.Parse(o.url)
	if err == nil && u.Scheme == "http" && !o.unverified {
		err := errkind.Errorf(errkind.Invalid, "the image comes from an http URL and --hash is %q: anybody on the network could replace the system that this host boots", cmp.Or(o.hash, "ignored"))
		return errkind.WithHint(err, "Give --hash sha384:HEX of the image's metadata, or an https URL, or --allow-unverified-http.")
	}
	fmt.Fprintln(o.App.Stderr, "WARNING: without --hash Trident writes and boots whatever the server sends.")
	return nil
}

func streamDisk(ctx context.Context, o *streamDiskOptions) error {
	if err := o.checkHash(); err != nil {
		return command.AsUpstream(err)
	}
	if o.within < 0 {
		return command.AsUpstream(errkind.Errorf(errkind.Invalid, "--fetch-timeout %s is negative", o.within))
	}
	return o.service(ctx, "write the disk", func(ctx context.Context, c *client.Client, fn func(*client.Event)) (client.Outcome, error) {
		return c.Host().StreamDisk(ctx, o.url, o.hash, client.How{FetchTimeout: o.within}, func(e *client.Event) {
			if e.GetChange().GetWaiting() != "reboot" { // nobody watches on from there
				fn(e)
			}
		})
	})
}
