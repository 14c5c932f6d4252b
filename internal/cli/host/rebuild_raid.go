package host

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

type rebuildRaidOptions struct {
	servicingOptions
	config string
	plan   bool
}

func newRebuildRaidCommand(a *command.App, run func(context.Context, *rebuildRaidOptions) error) *cobra.Command {
	o := &rebuildRaidOptions{servicingOptions: newServicingOptions(a)}
	cmd := &cobra.Command{
		Use:   "rebuild-raid",
		Short: "Rebuild RAID arrays after a disk was replaced",
		Example: `  trident rebuild-raid --plan
  trident rebuild-raid
  trident rebuild-raid --config host.yaml`,
		Long: `Rebuild-raid makes degraded arrays whole again, whatever has happened to a member. It
gives a replaced disk its partitions, waits until all members are in sync, and records
the new disk last. It refuses a disk with the data of others until that disk is wiped,
and a disk that is too small or in use. After a failure, run it again.

With --plan it only shows which disk gets a new partition table, what is lost there,
and which members are added and copied.`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
	cmd.Flags().StringVarP(&o.config, "config", "c", "", "fail unless this Host Configuration is that of the host")
	cmd.Flags().BoolVar(&o.plan, "plan", false, "only show the steps of the rebuild, and the data that would be lost")
	o.addFlags(cmd.Flags())
	return cmd
}

func rebuildRaid(ctx context.Context, o *rebuildRaidOptions) error {
	if o.plan {
		return command.AsUpstream(o.App.Ask(ctx, "plan the rebuild of RAID arrays", func(c *client.Client) error { return o.showPlan(ctx, c) }))
	}
	return o.service(ctx, "rebuild RAID arrays", func(ctx context.Context, c *client.Client, fn func(*client.Event)) (client.Outcome, error) {
		if o.config != "" {
			if err := o.isRecorded(ctx, c); err != nil {
				return client.Outcome{}, err
			}
		}
		return c.Host().RebuildRaid(ctx, fn)
	})
}

// showPlan shows what the rebuild would do. The host does not change.
func (o *rebuildRaidOptions) showPlan(ctx context.Context, c *client.Client) error {
	if o.config != "" {
		if err := o.isRecorded(ctx, c); err != nil {
			return err
		}
	}
	plan, err := c.Host().PlanRebuild(ctx)
	if err != nil {
		return err
	}
	for _, f := range plan.GetWarnings() {
		fmt.Fprintln(o.App.Stderr, findingText("rebuild-raid", f))
	}
	return o.App.Show(plan, func(w *terminal.Table) { w.Text(plan.GetText()) })
}

// isRecorded fails if the Host Configuration of the caller is not that of the host: its
// arrays are those of the recorded one.
func (o *rebuildRaidOptions) isRecorded(ctx context.Context, c *client.Client) error {
	text, err := readConfig(ctx, o.config)
	if err != nil {
		return err
	}
	config, err := configOf(text)
	if err != nil {
		return err
	}
	plan, err := c.Host().Plan(ctx, config)
	if err != nil || plan.GetKind() == tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED {
		return err
	}
	err = errkind.Errorf(errkind.Precondition, "the Host Configuration %s is not that of this host", configName(o.config))
	return errkind.WithName(errkind.WithHint(err, "Leave out --config, or update the host first."), errkind.NameValidateRebuildRaid)
}
