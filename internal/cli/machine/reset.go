package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type resetOptions struct {
	command.FollowOptions
	plan    bool
	confirm string
	// stdin is standard input, and isTerminal reports whether a person can answer on it. Tests
	// replace them.
	stdin      func(context.Context) io.Reader
	isTerminal func(io.Reader) bool
}

func newResetCommand(a *command.App, run func(context.Context, *resetOptions) error) *cobra.Command {
	o := &resetOptions{FollowOptions: command.FollowOptions{App: a}, stdin: command.Stdin, isTerminal: terminal.IsInput}
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Take the host out of service",
		Example: `  trident host reset --plan
  trident host reset
  trident host reset --confirm 0f1e2d3c4b5a6978`,
		Long: `Reset removes the extensions, the files and the network that Host Configurations have
brought to the running system, and records the host as not provisioned. The disks, the
operating system and Trident stay. A reset cannot be rolled back.

With --plan it only shows what is lost and what stays, and prints a confirmation. On a
terminal the command shows the plan and asks for the name of the host; elsewhere it needs
the confirmation. The daemon refuses the confirmation of another host, and that of a plan
that is not the present one any more.`,
		Args: command.Exactly(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !o.plan && a.IsOneOfSeveral() {
				return command.UsageError(cmd, errors.New("reset works on one host, because each has a confirmation of its own: name one host, or add --plan"))
			}
			return command.Run(run, o)(cmd, args)
		},
	}
	cmd.Flags().BoolVar(&o.plan, "plan", false, "only show what would be removed, and the confirmation")
	cmd.Flags().StringVar(&o.confirm, "confirm", "", "the confirmation of the plan, instead of a question")
	cmd.MarkFlagsMutuallyExclusive("plan", "confirm")
	o.AddFlags(cmd.Flags())
	return cmd
}

func reset(ctx context.Context, o *resetOptions) error {
	if o.plan {
		return o.App.Ask(ctx, "plan the reset of the host", func(c *client.Client) error { return o.showPlan(ctx, c) })
	}
	nothing := false
	return o.FollowTo(ctx, "reset the host", false, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		token := o.confirm
		if token == "" {
			plan, err := o.ask(ctx, c)
			if nothing = err == nil && len(plan.GetSteps()) == 0; err != nil || nothing {
				return nil, err
			}
			token = plan.GetConfirmation()
		}
		return c.Host().Reset(ctx, token, fn)
	}, func(_ *command.Following, op *client.Operation, err error) error {
		if err != nil || nothing {
			return err
		}
		return o.App.Show(op, func(w *terminal.Table) {
			if !o.App.Quiet {
				w.Line("Done: %s.", terminal.Line(op.GetSummary()))
			}
		})
	})
}

// showPlan prints the plan as the result of the command.
func (o *resetOptions) showPlan(ctx context.Context, c *client.Client) error {
	plan, err := c.Host().PlanReset(ctx)
	if err != nil {
		return err
	}
	o.warn(plan)
	return o.App.Show(plan, func(w *terminal.Table) {
		w.Text(plan.GetText())
		if len(plan.GetSteps()) > 0 {
			w.Line("To reset %s: trident host reset --confirm %s", plan.GetHostName(), plan.GetConfirmation())
		}
	})
}

func (o *resetOptions) warn(plan *machinev1.PlanResetResponse) {
	for _, f := range plan.GetWarnings() {
		fmt.Fprintf(o.App.Stderr, "warning: %s\n", terminal.Line(f.GetMessage()))
	}
}

// ask shows the plan, and returns it if it has no steps or if the person types the name of the
// host.
func (o *resetOptions) ask(ctx context.Context, c *client.Client) (*machinev1.PlanResetResponse, error) {
	from := o.stdin(ctx)
	if !o.isTerminal(from) {
		err := errkind.Errorf(errkind.Invalid, "--confirm is missing, and standard input is not a terminal")
		return nil, errkind.WithHint(err, "trident host reset --plan prints the confirmation.")
	}
	plan, err := c.Host().PlanReset(ctx)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(o.App.Stderr, terminal.Lines(plan.GetText()))
	o.warn(plan)
	if len(plan.GetSteps()) == 0 {
		return plan, nil
	}
	fmt.Fprintf(o.App.Stderr, "To reset this host, type its name, %s: ", terminal.Line(plan.GetHostName()))
	typed, err := readLine(ctx, from)
	if err != nil {
		return nil, err
	}
	if typed != plan.GetHostName() {
		return nil, errkind.Errorf(errkind.Cancelled, "%q is not the name of the host: nothing has changed", typed)
	}
	return plan, nil
}

// maxAnswer is longer than the name of any host, in bytes.
const maxAnswer = 1024

// readLine returns the first line of an input without blanks around it, or the cause of the
// end of ctx. The read may go on until the process ends.
func readLine(ctx context.Context, from io.Reader) (string, error) {
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(from, maxAnswer)).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
		got <- answer{strings.TrimSpace(line), err}
	}()
	select {
	case a := <-got:
		return a.line, a.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
