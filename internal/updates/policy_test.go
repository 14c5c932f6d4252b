package updates

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadConfReadsEverySetting(t *testing.T) {
	t.Parallel()
	christmas := time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, text string
		want       Policy
		set        []string
	}{
		{"nothing", "", Policy{}, nil},
		{"comments", "# nothing\n---\n", Policy{}, nil},
		{
			"all", `
feed: https://updates.example/trident
channel: beta
auto: stage
hold: {until: 2026-12-24, reason: the shop is open}
pin: 2.0.0-rc.1
window: {days: [mon, Tuesday], begin: 02:00, end: "5:30", timeZone: Europe/Berlin}
maxBytes: 100M
grace: 1w2d
`,
			Policy{
				Feed: "https://updates.example/trident", Channel: "beta", Auto: AutoStage, Hold: &Hold{Until: christmas, Reason: "the shop is open"}, Pin: "2.0.0-rc.1",
				Window:   &Window{Days: []time.Weekday{time.Monday, time.Tuesday}, Begin: 120, End: 330, TimeZone: "Europe/Berlin"},
				MaxBytes: 100 << 20, Grace: 9 * 24 * time.Hour,
			},
			[]string{"auto", "channel", "feed", "grace", "hold", "maxBytes", "pin", "window"},
		},
		{"for ever", "hold: forever", Policy{Hold: &Hold{}}, []string{"hold"}},
		{"a reason is enough", "hold: {reason: x}", Policy{Hold: &Hold{Reason: "x"}}, []string{"hold"}},
		{"a day", "hold: 2026-12-24", Policy{Hold: &Hold{Until: christmas}}, []string{"hold"}},
		{"a time", "hold: 2026-12-24T02:00:00+02:00", Policy{Hold: &Hold{Until: christmas}}, []string{"hold"}},
		{"off is a word", "auto: off", Policy{Auto: AutoOff}, []string{"auto"}},
		{"until midnight", "window: {begin: 22:00, end: 24:00}", Policy{Window: &Window{Begin: 1320, End: 1440}}, []string{"window"}},
		{"bytes", "maxBytes: 4096", Policy{MaxBytes: 4096}, []string{"maxBytes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			writeFile(t, filepath.Join(root, confFile), c.text)
			got, set, err := ReadConf(root)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.set, set); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAHostWithoutTheFileHasNoPolicy(t *testing.T) {
	t.Parallel()
	got, set, err := ReadConf(t.TempDir())
	if err != nil || set != nil || !cmp.Equal(got, Policy{}) {
		t.Errorf("got %v, %v, %v", got, set, err)
	}
}

func TestAWrongFileIsRefusedWithThePlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"feed: ftp://x", "line 1: feed: the URL must begin with http://"},
		{"feed: https://user:secret@", "line 1: feed: "},
		{"feed: https://x/#a", "fragment"},
		{"feed: file:relative", "absolute path"},
		{"\nchanel: beta", "line 2: chanel: is not a setting"},
		{"channel: Beta", `line 1: channel: "Beta" is not the name of a channel`},
		{"channel: root", "is not the name of a channel"},
		{"channel: ../x", "is not the name of a channel"},
		{"auto: on", `line 1: auto: "on" is not one of`},
		{"auto:", "line 1: auto: has no value"},
		{"auto: [off]", "line 1: auto: is not a text"},
		{"pin: v2", "line 1: pin: "},
		{"pin: 1.0.0\npin: 2.0.0", "twice"},
		{"hold: never", "line 1: hold: "},
		{"hold:\n  till: x", "line 2: hold.till: is not a key of hold"},
		{"hold: {reason: " + strings.Repeat("x", maxReason+1) + "}", "the limit is"},
		{"window: {begin: 25:00, end: 1:00}", "line 1: window.begin: "},
		{"window: {begin: 24:00, end: 1:00}", "window: the begin must be"},
		{"window: {begin: 2:0, end: 3:00}", "is not a time of the day"},
		{"window: {begin: -1:00, end: 3:00}", "is not a time of the day"},
		{"window: {begin: 2:00}", "needs begin and end"},
		{"window: {begin: 2:00, end: 3:00, days: mon}", "window.days: is not a list"},
		{"window: {begin: 2:00, end: 3:00, days: [moon]}", `"moon" is not a day`},
		{"window: {begin: 2:00, end: 3:00, timeZone: Mars/Olympus}", "is not a time zone"},
		{"window: {begin: 2:00, end: 3:00, timeZone: Local}", "is not a name of the tz database"},
		{"window: {begin: 2:00, end: 3:00, timeZone: ../../etc/passwd}", "is not a time zone"},
		{"window: 02:00-03:00", "window: is not a mapping"},
		{"maxBytes: 100 MB", "maxBytes: "},
		{"maxBytes: -1", "maxBytes: "},
		{"maxBytes: 9999999999T", "maxBytes: "},
		{"maxBytes: K", "maxBytes: "},
		{"grace: 7", "grace: "},
		{"grace: -7d", "grace: "},
		{"grace: 99999999w", "grace: "},
		{"grace: d", "grace: "},
		{"- feed", "is not a mapping"},
		{"a: &x 1\nfeed: *x", "is not a setting"},
		{"feed: &x https://y\nchannel: *x", "alias"},
		{"feed: [", "is not YAML"},
		{"feed: a\n---\nfeed: b", "second document"},
		{"feed: \xff", "not UTF-8"},
		{strings.Repeat("#", maxConf+1), "more than"},
	} {
		t.Run(c.want, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			writeFile(t, filepath.Join(root, confFile), c.text)
			_, set, err := ReadConf(root)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), confFile) || set != nil {
				t.Fatalf("%q: got %v, %v; want an error with %q", c.text, set, err, c.want)
			}
			if kind := errkind.Of(err); kind != errkind.Invalid && kind != errkind.TooLarge {
				t.Errorf("kind %s", kind)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

func TestValidateNamesTheField(t *testing.T) {
	t.Parallel()
	for field, p := range map[string]Policy{
		"":         {Feed: "file:///srv/feed", Channel: "stable", Auto: AutoCheck, Pin: "1.0.0", Window: &Window{End: 60}, MaxBytes: 1, Grace: time.Hour},
		"feed":     {Feed: "x"},
		"channel":  {Channel: "targets"},
		"auto":     {Auto: "sometimes"},
		"hold":     {Hold: &Hold{Reason: strings.Repeat("x", 1000)}},
		"pin":      {Pin: "1"},
		"window":   {Window: &Window{Days: []time.Weekday{7}}},
		"maxBytes": {MaxBytes: -1},
		"grace":    {Grace: -1},
	} {
		err := p.Validate()
		if (err == nil) != (field == "") || errkind.Field(err) != field || err != nil && errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: got %v, field %q", field, err, errkind.Field(err))
		}
	}
}

func TestAStoredSettingTakesPrecedence(t *testing.T) {
	t.Parallel()
	conf := Policy{Feed: "https://a", Channel: "beta", Auto: AutoStage, Hold: &Hold{}, Pin: "1.0.0", Window: &Window{End: 1}, MaxBytes: 1, Grace: 1}
	stored := Policy{Feed: "https://b", Channel: "edge", Auto: AutoOff, Pin: "2.0.0", MaxBytes: 2, Grace: 2}
	all := []string{"feed", "channel", "auto", "hold", "pin", "window", "maxBytes", "grace"}
	if diff := cmp.Diff(conf, Merge(conf, stored, nil)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(stored, Merge(conf, stored, all)); diff != "" {
		t.Error(diff)
	}
	if got := Merge(conf, stored, []string{"hold"}); got.Hold != nil || got.Pin != "1.0.0" {
		t.Errorf("got %+v", got)
	}
}

func TestAWindowFollowsTheClockOfItsZone(t *testing.T) {
	t.Parallel()
	night := Window{Begin: 22 * 60, End: 5 * 60, TimeZone: "Europe/Berlin"}
	early := Window{Begin: 2 * 60, End: 3 * 60, TimeZone: "Europe/Berlin"}
	friday := Window{Days: []time.Weekday{time.Friday}, Begin: 22 * 60, End: 2 * 60}
	for _, c := range []struct {
		name       string
		w          Window
		at, change string
		inside     bool
	}{
		{"before", Window{Begin: 120, End: 300}, "2026-06-01T01:59:59Z", "2026-06-01T02:00:00Z", false},
		{"at the begin", Window{Begin: 120, End: 300}, "2026-06-01T02:00:00Z", "2026-06-01T05:00:00Z", true},
		{"at the end", Window{Begin: 120, End: 300}, "2026-06-01T05:00:00Z", "2026-06-02T02:00:00Z", false},
		{"over midnight, before", night, "2026-06-01T21:30:00+02:00", "2026-06-01T22:00:00+02:00", false},
		{"over midnight, evening", night, "2026-06-01T23:30:00+02:00", "2026-06-02T05:00:00+02:00", true},
		{"over midnight, morning", night, "2026-06-01T04:59:00+02:00", "2026-06-01T05:00:00+02:00", true},
		{"the day of the begin counts", friday, "2026-06-06T01:00:00Z", "2026-06-06T02:00:00Z", true}, // a Saturday
		{"not the day before", friday, "2026-06-05T01:00:00Z", "2026-06-05T22:00:00Z", false},
		{"a week", friday, "2026-06-06T02:00:00Z", "2026-06-12T22:00:00Z", false},
		{"the whole day", Window{Days: []time.Weekday{time.Monday}}, "2026-06-01T12:00:00Z", "2026-06-02T00:00:00Z", true},
		{"until midnight", Window{Begin: 1380, End: 1440}, "2026-06-01T23:59:00Z", "2026-06-02T00:00:00Z", true},
		{"spring: a shorter night", night, "2026-03-29T01:59:00+01:00", "2026-03-29T05:00:00+02:00", true},
		{"spring: the hour does not exist", early, "2026-03-29T01:59:00+01:00", "2026-03-30T02:00:00+02:00", false},
		{"spring: begins after the hour", Window{Begin: 150, End: 300, TimeZone: "Europe/Berlin"}, "2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", false},
		{"autumn: the first hour of two", early, "2026-10-25T01:59:00+02:00", "2026-10-25T02:00:00+02:00", false},
		{"autumn: until the end", early, "2026-10-25T02:30:00+01:00", "2026-10-25T03:00:00+01:00", true},
		{"weekly in the missing hour", Window{Days: []time.Weekday{time.Sunday}, Begin: 120, End: 180, TimeZone: "Europe/Berlin"}, "2026-03-28T12:00:00Z", "2026-04-05T02:00:00+02:00", false},
		{"a day that does not exist", Window{TimeZone: "Pacific/Apia", Begin: 0, End: 60}, "2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			at, err := time.Parse(time.RFC3339, c.at)
			if err != nil {
				t.Fatal(err)
			}
			inside, change := c.w.At(at)
			if got := change.Format(time.RFC3339); inside != c.inside || got != c.change && !change.Equal(mustTime(t, c.change)) {
				t.Errorf("got %v until %s, want %v until %s", inside, got, c.inside, c.change)
			}
		})
	}
}

func mustTime(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func FuzzConf(f *testing.F) {
	f.Add([]byte("feed: https://x\nwindow: {begin: 02:00, end: 03:00, days: [mon]}\nhold: forever\nmaxBytes: 1G\ngrace: 7d\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, _, err := parseConf(text)
		if err != nil {
			return
		}
		if err := p.Validate(); err != nil {
			t.Errorf("a policy that was read is not valid: %v", err)
		}
		if p.Window != nil {
			if _, change := p.Window.At(time.Unix(1774746000, 0)); change.IsZero() {
				t.Errorf("the window %+v never changes", p.Window)
			}
		}
	})
}
