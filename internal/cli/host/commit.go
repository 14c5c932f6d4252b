package host

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
)

type commitOptions struct{ servicingOptions }

func newCommitCommand(a *command.App, run func(context.Context, *commitOptions) error) *cobra.Command {
	o := &commitOptions{newServicingOptions(a)}
	cmd := &cobra.Command{
		Use:   "commit",
		Short: "Keep the system on trial, or return to the previous one",
		Example: `  trident commit
  trident commit --output json`,
		Long: `Commit keeps the system that the host booted, if it is the new one and its health
checks pass. Otherwise the host boots the previous system, where commit says why.
Without a system on trial commit does nothing. trident.service runs commit at each
boot.`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func commit(ctx context.Context, o *commitOptions) error {
	return o.serviceTo(ctx, "commit the host", func(ctx context.Context, c *client.Client, fn func(*client.Event)) (client.Outcome, error) {
		return c.Host().Commit(ctx, client.How{}, fn)
	}, func(f *command.Following, out client.Outcome, op *client.Operation, err error) error {
		return o.report(ctx, f, out, op, err)
	})
}

// report says whether the host kept the system on trial or rolled it back.
func (o *commitOptions) report(ctx context.Context, f *command.Following, out client.Outcome, op *client.Operation, err error) error {
	if op == nil {
		return o.servicingOptions.report(f, out, op, err)
	}
	ctx, cancel := command.Quick(ctx)
	defer cancel()
	host, herr := f.Client.Host().Get(ctx)
	switch {
	case herr != nil:
		return o.servicingOptions.report(f, out, op, err)
	case err != nil:
		f.Progress.Line("What was booted was not kept. %s", whereStands(host))
		return errors.Join(err, o.App.Show(op, func(*terminal.Table) {}))
	}
	return o.App.Show(op, func(w *terminal.Table) { w.Line("%s (%s)", whereStands(host), op.GetSummary()) })
}

// whereStands describes the state of a host in a sentence.
func whereStands(host *hostv1.GetHostResponse) string {
	text := "The host is " + terminal.Line(host.GetServicingState())
	if host.GetActiveVolume() != "" {
		text += ", and runs from " + terminal.Line(host.GetActiveVolume())
	}
	return text + "."
}
