package self

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/when"
	"github.com/trident-project/trident/proto/client"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

type setPolicyOptions struct {
	app    *command.App
	policy *client.Policy
	set    []string
}

const policySetLong = `Set changes settings of the update policy; the others stay. They take precedence over
those of /etc/trident/update.conf. A flag with an empty value or 0 decides nothing.

WINDOW has days, hours and a time zone: "mon-fri 02:00-05:00 Europe/Berlin". Days and
zone may be omitted: then it is every day, in UTC.`

func newPolicySetCommand(a *command.App, run func(context.Context, *setPolicyOptions) error) *cobra.Command {
	o := &setPolicyOptions{app: a, policy: &client.Policy{}}
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Change settings of the update policy",
		Long:  policySetLong,
		Example: `  trident self policy set --feed https://example.com/trident --auto stage
  trident self policy set --auto activate --window 02:00-05:00
  trident self policy set --hold-until 2026-12-24 --reason holidays
  trident self policy set --pin 2.0.0 --max-bytes 100M --grace 7d`,
		Args: command.Exactly(),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(o.set) == 0 {
			return errNothingToSet(cmd)
		}
		return run(cmd.Context(), o)
	}
	var hold, noHold bool
	var until, reason string
	flags := cmd.Flags()
	for _, f := range o.values() {
		flags.Var(f, f.name, f.usage)
	}
	flags.Lookup("allow-read-only-usr").NoOptDefVal = "true"
	flags.BoolVar(&hold, "hold", false, "take nothing new, for ever")
	flags.StringVar(&until, "hold-until", "", "take nothing new until a date or a time (2026-12-24, 2026-12-24T06:00:00Z)")
	flags.BoolVar(&noHold, "no-hold", false, "end a hold")
	flags.StringVar(&reason, "reason", "", "why nothing new is taken, for people")
	cmd.MarkFlagsMutuallyExclusive("hold", "hold-until", "no-hold")
	cmd.MarkFlagsMutuallyExclusive("reason", "no-hold")
	command.CompleteFlag(cmd, "auto", "off", "check", "stage", "activate")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		isHeld := hold || until != ""
		switch {
		case reason != "" && !isHeld:
			return command.UsageError(cmd, errors.New("--reason needs --hold or --hold-until"))
		case !isHeld && !noHold:
			return nil
		}
		o.set = append(o.set, "hold")
		if noHold {
			return nil
		}
		o.policy.Hold = &selfv1.Hold{Reason: reason}
		if until == "" {
			return nil
		}
		t, err := when.ParseTime(until)
		if err != nil {
			return command.UsageError(cmd, fmt.Errorf("--hold-until: %w", err))
		}
		o.policy.Hold.Until = timestamppb.New(t)
		return nil
	}
	return cmd
}

func setPolicy(ctx context.Context, o *setPolicyOptions) error {
	return changePolicy(ctx, o.app, o.policy, o.set, nil)
}

// A setting is a flag whose value changes the policy.
type setting struct {
	o                       *setPolicyOptions
	name, kind, usage, text string
	put                     func(p *client.Policy, text string) error
}

func (s *setting) String() string { return s.text }
func (s *setting) Type() string   { return s.kind }

func (s *setting) Set(text string) error {
	if err := s.put(s.o.policy, text); err != nil {
		return err
	}
	if s.text = text; !slices.Contains(s.o.set, s.name) {
		s.o.set = append(s.o.set, s.name)
	}
	return nil
}

func (o *setPolicyOptions) values() []*setting {
	return []*setting{
		{o: o, name: "feed", kind: "URL", usage: "the update feed: an http, https or file URL", put: func(p *client.Policy, t string) error { p.Feed = t; return nil }},
		{o: o, name: "channel", kind: "NAME", usage: "a channel of the feed (default stable)", put: func(p *client.Policy, t string) error { p.Channel = t; return nil }},
		{o: o, name: "pin", kind: "VERSION", usage: "the only version that this host may take", put: func(p *client.Policy, t string) error { p.Pin = t; return nil }},
		{o: o, name: "auto", kind: "WHAT", usage: "what Trident does by itself: off, check, stage or activate", put: func(p *client.Policy, t string) (err error) { p.Auto, err = parseAuto(t); return err }},
		{o: o, name: "window", kind: "WINDOW", usage: "when Trident may stage and activate by itself", put: func(p *client.Policy, t string) (err error) { p.Window, err = parseWindow(t); return err }},
		{o: o, name: "max-bytes", kind: "SIZE", usage: "the most bytes that one staging may receive over the network (100M)", put: func(p *client.Policy, t string) (err error) { p.MaxBytes, err = bytesize.Parse(t); return err }},
		{o: o, name: "grace", kind: "TIME", usage: "how long the image before the previous one stays (7d)", put: func(p *client.Policy, t string) error {
			d, err := when.ParseSpan(t)
			p.Grace = durationpb.New(d)
			return err
		}},
		{o: o, name: "allow-read-only-usr", kind: "bool", usage: "activate by itself although a package manager can then not write to /usr", put: func(p *client.Policy, t string) (err error) {
			p.AllowReadOnlyUsr, err = strconv.ParseBool(t)
			return err
		}},
	}
}

func parseAuto(text string) (selfv1.Auto, error) {
	v, ok := selfv1.Auto_value["AUTO_"+strings.ToUpper(text)]
	if !ok || v == 0 {
		return 0, fmt.Errorf("%q is not off, check, stage or activate", text)
	}
	return selfv1.Auto(v), nil
}

// parseWindow returns nil for the empty text.
func parseWindow(text string) (*selfv1.Window, error) {
	if text == "" {
		return nil, nil
	}
	w, err := when.ParseWindow(text)
	if err != nil {
		return nil, err
	}
	out := &selfv1.Window{Begin: int32(w.Begin), End: int32(w.End), TimeZone: w.TimeZone}
	for _, day := range w.Days {
		out.Days = append(out.Days, int32(day))
	}
	return out, nil
}
