package self

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/cli/command"
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
  trident self policy set --auto activate --window "mon-fri 02:00-05:00 Europe/Berlin"
  trident self policy set --hold-until 2026-12-24 --reason "the holidays"
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
		t, err := parseTime(until)
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
		{o: o, name: "max-bytes", kind: "SIZE", usage: "the most bytes that one staging may receive over the network (100M)", put: func(p *client.Policy, t string) (err error) { p.MaxBytes, err = parseSize(t); return err }},
		{o: o, name: "grace", kind: "TIME", usage: "how long the image before the previous one stays (7d)", put: func(p *client.Policy, t string) error {
			d, err := parseSpan(t)
			p.Grace = durationpb.New(d)
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

func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a date like 2026-12-24 or a time like 2026-12-24T06:00:00Z", text)
}

// parseWindow parses "mon-fri 02:00-05:00 Europe/Berlin"; nil for the empty text.
func parseWindow(text string) (*selfv1.Window, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, nil
	}
	w := &selfv1.Window{}
	if !strings.Contains(words[0], ":") {
		days, err := parseDays(words[0])
		if err != nil {
			return nil, err
		}
		w.Days, words = days, words[1:]
	}
	if len(words) == 0 || len(words) > 2 {
		return nil, fmt.Errorf("%q is not a window like %q", text, "mon-fri 02:00-05:00 Europe/Berlin")
	}
	begin, end, _ := strings.Cut(words[0], "-")
	for at, clock := range map[*int32]string{&w.Begin: begin, &w.End: end} {
		minutes, err := parseClock(clock)
		if err != nil {
			return nil, err
		}
		*at = minutes
	}
	if len(words) == 2 {
		w.TimeZone = words[1]
	}
	return w, nil
}

func parseClock(text string) (int32, error) {
	if text == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time of the day like 02:00", text)
	}
	return int32(t.Hour()*60 + t.Minute()), nil
}

// parseDays parses days of the week and spans of them: "mon-fri,sun".
func parseDays(text string) (days []int32, err error) {
	for part := range strings.SplitSeq(text, ",") {
		first, last, isSpan := strings.Cut(part, "-")
		from, err := parseDay(first)
		if err != nil {
			return nil, err
		}
		to := from
		if isSpan {
			if to, err = parseDay(last); err != nil {
				return nil, err
			}
		}
		for day := from; ; day = (day + 1) % 7 {
			days = append(days, day)
			if day == to {
				break
			}
		}
	}
	return days, nil
}

func parseDay(text string) (int32, error) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if name := day.String(); strings.EqualFold(text, name) || strings.EqualFold(text, name[:3]) {
			return int32(day), nil
		}
	}
	return 0, fmt.Errorf("%q is not a day of the week like mon", text)
}

// parseSize parses a number of bytes; K, M, G and T are units of 1024.
func parseSize(text string) (int64, error) {
	digits, unit := text, 0
	if n := len(text) - 1; n >= 0 {
		if at := strings.IndexByte("KMGT", text[n]); at >= 0 {
			digits, unit = text[:n], at+1
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > 1<<62>>(10*unit) {
		return 0, fmt.Errorf("%q is not a number of bytes like 100M", text)
	}
	return n << (10 * unit), nil
}

// parseSpan parses a duration, also in days: 7d, 36h.
func parseSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a time like 7d or 36h", text)
	}
	return d, nil
}
