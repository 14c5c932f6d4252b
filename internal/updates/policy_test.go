package updates

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/when"
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
allowReadOnlyUsr: true
`,
			Policy{
				Feed: "https://updates.example/trident", Channel: "beta", Auto: AutoStage, Hold: &Hold{Until: christmas, Reason: "the shop is open"}, Pin: "2.0.0-rc.1",
				Window:   &when.Window{Days: []time.Weekday{time.Monday, time.Tuesday}, Begin: 120, End: 330, TimeZone: "Europe/Berlin"},
				MaxBytes: 100 << 20, Grace: 9 * 24 * time.Hour, AllowReadOnlyUsr: true,
			},
			[]string{"allowReadOnlyUsr", "auto", "channel", "feed", "grace", "hold", "maxBytes", "pin", "window"},
		},
		{"for ever", "hold: forever", Policy{Hold: &Hold{}}, []string{"hold"}},
		{"a reason is enough", "hold: {reason: x}", Policy{Hold: &Hold{Reason: "x"}}, []string{"hold"}},
		{"a day", "hold: 2026-12-24", Policy{Hold: &Hold{Until: christmas}}, []string{"hold"}},
		{"a time", "hold: 2026-12-24T02:00:00+02:00", Policy{Hold: &Hold{Until: christmas}}, []string{"hold"}},
		{"off is a word", "auto: off", Policy{Auto: AutoOff}, []string{"auto"}},
		{"until midnight", "window: {begin: 22:00, end: 24:00}", Policy{Window: &when.Window{Begin: 1320, End: 1440}}, []string{"window"}},
		{"a window in one line", "window: mon-tue 22:00-5:00 Asia/Tokyo", Policy{Window: &when.Window{Days: []time.Weekday{time.Monday, time.Tuesday}, Begin: 1320, End: 300, TimeZone: "Asia/Tokyo"}}, []string{"window"}},
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
		{"hold:\n  till: x", "line 2: hold.till: is not a setting"},
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
		{"window: mon", `line 1: window: "mon" is not a window`},
		{"window: 02:00-25:00", "is not a time of the day"},
		{"window: [mon]", "window: is not a mapping"},
		{"maxBytes: 100 MB", "maxBytes: "},
		{"maxBytes: -1", "maxBytes: "},
		{"maxBytes: 9999999999T", "maxBytes: "},
		{"maxBytes: K", "maxBytes: "},
		{"grace: 7", "grace: "},
		{"grace: -7d", "grace: "},
		{"grace: 99999999w", "grace: "},
		{"grace: d", "grace: "},
		{"allowReadOnlyUsr: yes", `allowReadOnlyUsr: "yes" is not true or false`},
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
		"":         {Feed: "file:///srv/feed", Channel: "stable", Auto: AutoCheck, Pin: "1.0.0", Window: &when.Window{End: 60}, MaxBytes: 1, Grace: time.Hour},
		"feed":     {Feed: "x"},
		"channel":  {Channel: "targets"},
		"auto":     {Auto: "sometimes"},
		"hold":     {Hold: &Hold{Reason: strings.Repeat("x", 1000)}},
		"pin":      {Pin: "1"},
		"window":   {Window: &when.Window{Days: []time.Weekday{7}}},
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
	conf := Policy{Feed: "https://a", Channel: "beta", Auto: AutoStage, Hold: &Hold{}, Pin: "1.0.0", Window: &when.Window{End: 1}, MaxBytes: 1, Grace: 1, AllowReadOnlyUsr: true}
	stored := Policy{Feed: "https://b", Channel: "edge", Auto: AutoOff, Pin: "2.0.0", MaxBytes: 2, Grace: 2}
	all := []string{"feed", "channel", "auto", "hold", "pin", "window", "maxBytes", "grace", "allowReadOnlyUsr"}
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
