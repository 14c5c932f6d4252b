package self

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

// settingNames are the settings of the policy in the words of the command.
func settingNames() []string {
	return []string{"feed", "channel", "auto", "hold", "pin", "window", "max-bytes", "grace", "allow-read-only-usr"}
}

// nameToAPI returns the name of a setting in the API.
func nameToAPI(name string) string { return strings.ReplaceAll(name, "-", "_") }

func newPolicyCommand(a *command.App) *cobra.Command {
	return command.Group("policy", "Decide which new versions this host takes, and when",
		newPolicyShowCommand(a, showPolicy),
		newPolicySetCommand(a, setPolicy),
		newPolicyResetCommand(a, resetPolicy),
	)
}

type policyOptions struct{ app *command.App }

func newPolicyShowCommand(a *command.App, run func(context.Context, *policyOptions) error) *cobra.Command {
	o := &policyOptions{app: a}
	return &cobra.Command{
		Use:   "show",
		Short: "Show the policy in effect, and where each setting comes from",
		Example: `  trident self policy show
  trident self policy show --output yaml`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
}

func showPolicy(ctx context.Context, o *policyOptions) error {
	return o.app.Ask(ctx, "ask for the update policy", func(c *client.Client) error {
		p, err := c.Policy(ctx)
		if err != nil {
			return err
		}
		return o.app.Show(p, func(w *terminal.Table) { writePolicy(w, p) })
	})
}

type resetPolicyOptions struct {
	app   *command.App
	names []string
}

func newPolicyResetCommand(a *command.App, run func(context.Context, *resetPolicyOptions) error) *cobra.Command {
	o := &resetPolicyOptions{app: a}
	return &cobra.Command{
		Use:       "reset SETTING...",
		Short:     "Forget settings, so that update.conf or the defaults apply again",
		Example:   "  trident self policy reset hold pin",
		ValidArgs: settingNames(),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return command.UsageError(cmd, fmt.Errorf("SETTING is missing: %s", strings.Join(settingNames(), ", ")))
			}
			for _, name := range args {
				if !slices.Contains(settingNames(), name) {
					return command.UsageError(cmd, fmt.Errorf("%q is not a setting: %s", name, strings.Join(settingNames(), ", ")))
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return run(cmd.Context(), o)
		},
	}
}

func resetPolicy(ctx context.Context, o *resetPolicyOptions) error {
	return changePolicy(ctx, o.app, nil, nil, o.names)
}

// changePolicy sets and resets settings, and says what is in effect then.
func changePolicy(ctx context.Context, a *command.App, p *client.Policy, set, reset []string) error {
	return a.Ask(ctx, "change the update policy", func(c *client.Client) error {
		toAPI := func(names []string) (out []string) {
			for _, name := range names {
				out = append(out, nameToAPI(name))
			}
			return out
		}
		after, err := c.SetPolicy(ctx, p, toAPI(set), toAPI(reset))
		if err != nil {
			return err
		}
		for _, name := range slices.Concat(set, reset) {
			a.Say("%s: %s", name, terminal.Line(settingText(after, name)))
		}
		return nil
	})
}

// errNothingToSet is the error of a policy set without a flag.
func errNothingToSet(cmd *cobra.Command) error {
	return command.UsageError(cmd, errkind.Errorf(errkind.Invalid, "no setting is given: use a flag such as --pin 2.0.0"))
}
