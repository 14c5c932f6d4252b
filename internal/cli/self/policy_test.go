package self

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

func TestFlagsOfPolicySetBecomeSettings(t *testing.T) {
	t.Parallel()
	christmas := timestamppb.New(time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC))
	for line, c := range map[string]struct {
		want  *client.Policy
		names string
		fails string
	}{
		"--channel stable --auto activate":        {&client.Policy{Channel: "stable", Auto: selfv1.Auto_AUTO_ACTIVATE}, "auto channel", ""},
		"--pin 2.0.0 --max-bytes 100M --grace 7d": {&client.Policy{Pin: "2.0.0", MaxBytes: 100 << 20, Grace: durationpb.New(7 * 24 * time.Hour)}, "grace max-bytes pin", ""},
		"--grace 1w2d":                     {&client.Policy{Grace: durationpb.New(9 * 24 * time.Hour)}, "grace", ""},
		"--max-bytes 0 --grace 36h --pin=": {&client.Policy{Grace: durationpb.New(36 * time.Hour)}, "grace max-bytes pin", ""},
		"--hold":                           {&client.Policy{Hold: &selfv1.Hold{}}, "hold", ""},
		"--hold-until 2026-12-24 --reason holidays":   {&client.Policy{Hold: &selfv1.Hold{Until: christmas, Reason: "holidays"}}, "hold", ""},
		"--allow-read-only-usr":                       {&client.Policy{AllowReadOnlyUsr: true}, "allow-read-only-usr", ""},
		"--allow-read-only-usr=false":                 {&client.Policy{}, "allow-read-only-usr", ""},
		"--no-hold":                                   {&client.Policy{}, "hold", ""},
		"--window 02:00-24:00":                        {&client.Policy{Window: &selfv1.Window{Begin: 120, End: 1440}}, "window", ""},
		"--window sat-mon,wed_22:00-05:00_Asia/Tokyo": {&client.Policy{Window: &selfv1.Window{Days: []int32{6, 0, 1, 3}, Begin: 1320, End: 300, TimeZone: "Asia/Tokyo"}}, "window", ""},
		"--window=":                                   {&client.Policy{}, "window", ""},
		"":                                            {nil, "", "no setting is given"},
		"--hold --no-hold":                            {nil, "", "none of the others can be"},
		"--reason holidays":                           {nil, "", "--reason needs --hold"},
		"--hold-until tomorrow":                       {nil, "", `"tomorrow" is not a date`},
		"--auto always":                               {nil, "", `"always" is not off, check`},
		"--auto unspecified":                          {nil, "", `"unspecified" is not off, check`},
		"--max-bytes -1":                              {nil, "", `"-1" is not a number of bytes`},
		"--max-bytes 9000000T":                        {nil, "", "is not a number of bytes"},
		"--grace soon":                                {nil, "", `"soon" is not a span of time`},
		"--window someday_02:00-03:00":                {nil, "", `"someday" is not a day`},
		"--window mon_2-3":                            {nil, "", `"2" is not a time of the day`},
		"--window mon":                                {nil, "", "is not a window"},
	} {
		var got *setPolicyOptions
		cmd := newPolicySetCommand(&command.App{}, func(_ context.Context, o *setPolicyOptions) error { got = o; return nil })
		var args []string
		for _, word := range strings.Fields(line) {
			args = append(args, strings.ReplaceAll(word, "_", " "))
		}
		cmd.SetArgs(args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		err := cmd.ExecuteContext(t.Context())
		switch {
		case c.fails != "":
			if err == nil || !strings.Contains(err.Error(), c.fails) || got != nil {
				t.Errorf("%s: %v", line, err)
			}
		case err != nil:
			t.Errorf("%s: %v", line, err)
		default:
			if diff := cmp.Diff(c.want, got.policy, protocmp.Transform()); diff != "" {
				t.Errorf("%s: %s", line, diff)
			}
			for name := range strings.FieldsSeq(c.names) {
				if !strings.Contains(" "+strings.Join(got.set, " ")+" ", " "+name+" ") {
					t.Errorf("%s: sets %v, not %s", line, got.set, name)
				}
			}
		}
	}
}

func TestAutoUpdateDoesWhatTheAnswerPermits(t *testing.T) {
	t.Parallel()
	offer, staged := &selfv1.Release{Version: "2.0.0"}, &selfv1.Release{Version: "2.0.0", Staged: true}
	for name, c := range map[string]struct {
		auto  selfv1.Auto
		offer *selfv1.Release
		does  bool
	}{
		"nothing is offered":                   {selfv1.Auto_AUTO_ACTIVATE, nil, false},
		"it may only check":                    {selfv1.Auto_AUTO_CHECK, offer, false},
		"it may stage":                         {selfv1.Auto_AUTO_STAGE, offer, true},
		"it may stage, and has":                {selfv1.Auto_AUTO_STAGE, staged, false},
		"it may activate":                      {selfv1.Auto_AUTO_ACTIVATE, offer, true},
		"it may activate what is staged":       {selfv1.Auto_AUTO_ACTIVATE, staged, true},
		"a word of a later daemon is not done": {99, offer, false},
	} {
		next := nextStep(&client.Updates{Auto: c.auto, Offer: c.offer, Reasons: []*selfv1.Reason{{Message: "the feed is stale"}}, AutoReasons: []*selfv1.Reason{{Message: "/usr is writable"}}}, false)
		if (next.verb != nil) != c.does || c.offer == nil && !strings.Contains(next.says, "the feed is stale") || c.offer != nil && !strings.Contains(next.says, "/usr is writable") {
			t.Errorf("%s: %+v", name, next)
		}
	}
}

func TestNoTextOfAFeedOrAPolicyActsOnTheTerminal(t *testing.T) {
	const evil = commandtest.Evil
	release := &selfv1.Release{Version: evil, Reasons: []*selfv1.Reason{{Message: evil}}}
	u := &client.Updates{RunningVersion: evil, Feed: evil, Channel: evil, Offer: release, Others: []*selfv1.Release{release}, Reasons: release.GetReasons(), AutoReasons: release.GetReasons()}
	commandtest.Clean(t, 10, func(a *command.App) { _ = a.Show(u, func(w *terminal.Table) { writeUpdates(w, u) }) })
	p := &client.PolicyOrigin{Policy: &client.Policy{Feed: evil, Channel: evil, Pin: evil, Hold: &selfv1.Hold{Reason: evil}, Window: &selfv1.Window{TimeZone: evil}}}
	commandtest.Clean(t, 10, func(a *command.App) { _ = a.Show(p, func(w *terminal.Table) { writePolicy(w, p) }) })
}
