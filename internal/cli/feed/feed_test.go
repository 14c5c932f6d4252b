package feed

import (
	"testing"
	"time"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	format "github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/feed/publish"
)

func TestFlagsBecomeOptions(t *testing.T) {
	at := place{feed: "f", keys: "k"}
	t.Run("init", func(t *testing.T) {
		got, err := commandtest.Parse(t, newInitCommand, "--feed", "f", "--keys", "k", "--channel", "a", "--channel", "b", "--root-key", "r", "--root-threshold", "2", "--root-valid", "30d")
		validity := publish.DefaultValidity()
		validity.Root = 30 * 24 * time.Hour
		commandtest.Want(t, &initOptions{place: at, channels: []string{"a", "b"}, rootKeys: []string{"r"}, threshold: 2, validity: validity}, got, err)
	})
	t.Run("add", func(t *testing.T) {
		got, err := commandtest.Parse(t, newAddCommand, "i", "j", "--feed", "f", "--keys", "k", "--channel", "a", "--after", "1.0.0", "--wave", "36h", "--trust", "t")
		commandtest.Want(t, &addOptions{place: at, images: []string{"i", "j"}, channel: "a", after: "1.0.0", wave: span(36 * time.Hour), waveFirst: "1%", trust: []string{"t"}}, got, err)
	})
	t.Run("verify", func(t *testing.T) {
		got, err := commandtest.Parse(t, newVerifyCommand, "f", "--root", "r", "--time", "9")
		commandtest.Want(t, &verifyOptions{place: place{time: "9"}, source: "f", root: "r"}, got, err)
	})
}

func TestPartsOfTheHosts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"1%": 100, "0.01%": 1, "100": 10_000, "0%": 0, "-1%": -1, "101%": -1, "NaN": -1, "": -1, "x%": -1} {
		got, err := hostsOf(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestTheTimeIsThatOfTheFlagOrOfTheSources(t *testing.T) {
	a, _, _ := commandtest.New()
	want := func(what string, p place, want time.Time) {
		t.Helper()
		if got, err := p.now(); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "") // make sets it
	want("clock", place{app: a}, a.Now())
	t.Setenv("SOURCE_DATE_EPOCH", "100")
	want("sources", place{app: a}, time.Unix(100, 0))
	want("flag", place{app: a, time: "1970-01-01T00:00:09Z"}, time.Unix(9, 0))
	for _, text := range []string{"x", "-1", "99999999999999"} {
		if _, err := (&place{app: a, time: text}).now(); err == nil {
			t.Errorf("the time %q is accepted", text)
		}
	}
}

func TestNoTextOfAFeedActsOnTheTerminal(t *testing.T) {
	const evil = commandtest.Evil
	image := publish.Image{Release: format.Release{Version: evil, Architecture: evil}}
	added := &addResult{Channel: evil, Images: []publish.Added{{Path: evil, Image: image}}}
	commandtest.Clean(t, 4, func(a *command.App) { _ = a.Show(added, added.write) })
	report := &verified{Feed: evil, Report: publish.Report{Channels: map[string][]publish.Image{evil: {image}}, Notes: []string{evil}}}
	commandtest.Clean(t, 7, func(a *command.App) { _ = a.Show(report, report.write) })
	started := &initialized{Feed: evil, Keys: evil, Channels: []string{evil}, Root: evil, Pubring: evil, place: evil, Waiting: &waiting{File: evil, Keys: []publish.WaitingKey{{ID: evil, Public: evil}}}}
	commandtest.Clean(t, 13, func(a *command.App) { _ = a.Show(started, started.write) })
}
