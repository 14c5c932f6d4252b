package self

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// settingNames are the settings of the policy in the words of the command.
func settingNames() []string {
	return []string{"feed", "channel", "auto", "hold", "pin", "window", "max-bytes", "grace"}
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

func writePolicy(w *terminal.Table, p *client.PolicyOrigin) {
	w.Head("SETTING", "VALUE", "FROM")
	for _, name := range settingNames() {
		from := "default"
		switch {
		case slices.Contains(p.GetSet(), nameToAPI(name)):
			from = "set"
		case slices.Contains(p.GetConfigured(), nameToAPI(name)):
			from = "update.conf"
		}
		w.Row(name, settingText(p.GetPolicy(), name), from)
	}
}

// settingText returns a setting for people.
func settingText(p *client.Policy, name string) string {
	switch name {
	case "feed":
		return cmp.Or(p.GetFeed(), "none")
	case "channel":
		return cmp.Or(p.GetChannel(), "stable")
	case "auto":
		return autoWord(p.GetAuto())
	case "hold":
		return holdText(p.GetHold())
	case "pin":
		return cmp.Or(p.GetPin(), "none")
	case "window":
		return windowText(p.GetWindow())
	case "max-bytes":
		if p.GetMaxBytes() == 0 {
			return "no bound"
		}
		return bytesize.Plain(p.GetMaxBytes())
	case "grace":
		return spanText(p.GetGrace().AsDuration())
	}
	return ""
}

func autoWord(a selfv1.Auto) string {
	word, _, _ := strings.Cut(autoText(a), ":")
	return word
}

func holdText(h *selfv1.Hold) string {
	if h == nil {
		return "no"
	}
	text := "for ever"
	if h.GetUntil() != nil {
		text = "until " + terminal.FormatTime(h.GetUntil())
	}
	if h.GetReason() != "" {
		text += ": " + h.GetReason()
	}
	return text
}

func windowText(w *selfv1.Window) string {
	if w == nil {
		return "at any time"
	}
	var days []string
	for _, day := range w.GetDays() {
		days = append(days, strings.ToLower(time.Weekday(day).String()))
	}
	clock := func(minutes int32) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }
	text := fmt.Sprintf("%s-%s %s", clock(w.GetBegin()), clock(w.GetEnd()), cmp.Or(w.GetTimeZone(), "UTC"))
	if len(days) > 0 {
		text = strings.Join(days, ",") + " " + text
	}
	return text
}

func spanText(d time.Duration) string {
	const day = 24 * time.Hour
	if d != 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

// policyText is the policy in one line, for the status.
func policyText(p *client.Policy) string {
	facts := []string{"auto " + autoWord(p.GetAuto())}
	if p.GetPin() != "" {
		facts = append(facts, "pinned to "+p.GetPin())
	}
	if p.GetHold() != nil {
		facts = append(facts, "held "+holdText(p.GetHold()))
	}
	return strings.Join(facts, ", ")
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
