package host

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

type rollbackOptions struct {
	servicingOptions
	check, runtime, ab bool
	allowed            allowedOperations
}

const rollbackLong = `Rollback returns this host to the previous Host Configuration. --check only prints
the kind of the next rollback: none, ab (a reboot into the other slot) or runtime
(a change of the running host). With --ab or --runtime the daemon refuses a rollback
of the other kind.`

func newRollbackCommand(a *command.App, run func(context.Context, *rollbackOptions) error) *cobra.Command {
	o := &rollbackOptions{servicingOptions: newServicingOptions(a)}
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Return this host to its state before the last update",
		Example: `  trident rollback --check
  trident rollback
  trident rollback --ab --allowed-operations stage`,
		Long: rollbackLong,
		Args: command.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.ab && o.runtime {
				return command.UsageError(cmd, fmt.Errorf("--ab and --runtime exclude each other"))
			}
			return run(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.check, "check", false, "only print the kind of the next rollback: none, ab or runtime")
	cmd.Flags().BoolVar(&o.runtime, "runtime", false, "refuse a rollback that reboots into the other slot")
	cmd.Flags().BoolVar(&o.ab, "ab", false, "refuse a rollback that changes the running host")
	o.addFlags(cmd.Flags())
	o.allowed.addFlag(cmd)
	return cmd
}

func (o *rollbackOptions) kind() client.RollbackKind {
	switch {
	case o.ab:
		return client.ABRollback
	case o.runtime:
		return client.RuntimeRollback
	}
	return client.AnyRollback
}

func rollback(ctx context.Context, o *rollbackOptions) error {
	if o.check {
		return command.AsUpstream(o.App.Ask(ctx, "check for a rollback", func(c *client.Client) error { return o.printCheck(ctx, c) }))
	}
	return o.service(ctx, "roll back the host", func(ctx context.Context, c *client.Client, fn func(*client.Event)) (client.Outcome, error) {
		if stage, finalize := o.allowed.may(); !stage && !finalize {
			return client.Outcome{}, o.refuseNone(ctx, c)
		}
		return c.Host().Rollback(ctx, o.kind(), o.allowed.how(), fn)
	})
}

// next is what a rollback would be: none, ab or runtime.
func (o *rollbackOptions) next(ctx context.Context, c *client.Client) (string, error) {
	// A record that cannot be read has no way back that anybody knows; one that is only
	// too large for a message has.
	if _, err := hostStatus(ctx, c); err != nil && client.Kind(err) != client.KindTooLarge {
		return "", err
	}
	return c.Host().NextRollback(ctx, o.kind())
}

func (o *rollbackOptions) printCheck(ctx context.Context, c *client.Client) error {
	next, err := o.next(ctx, c)
	if err != nil {
		return err
	}
	return o.App.Show(map[string]string{"rollback": next}, func(w *terminal.Table) { w.Line("%s", next) })
}

// refuseNone is what a rollback without any allowed operation comes to.
func (o *rollbackOptions) refuseNone(ctx context.Context, c *client.Client) error {
	next, err := o.next(ctx, c)
	if err == nil && next == "none" {
		err = errkind.WithName(errkind.Errorf(errkind.Precondition, "this host has no rollback of that kind"), errkind.NameInvalidRollbackExpectation)
	}
	return err
}
