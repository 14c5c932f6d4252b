package updating

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/updates"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// finder answers with its fields.
type finder struct {
	report updates.Report
	source fetch.Source
}

func (f finder) Check(context.Context) (updates.Report, error) { return f.report, nil }
func (f finder) Incoming() (fetch.Source, error)               { return f.source, nil }
func (f finder) Source(context.Context, string) (fetch.Source, string, error) {
	return f.source, "2.0.0", nil
}

func TestEveryReasonHasItsKindInTheAPI(t *testing.T) {
	t.Parallel()
	seen := map[selfv1.ReasonKind]bool{}
	for kind, wire := range reasonKinds() {
		if wire == 0 || seen[wire] {
			t.Errorf("%s is %s", kind, wire)
		}
		seen[wire] = true
	}
	for n, name := range selfv1.ReasonKind_name {
		if n != 0 && !seen[selfv1.ReasonKind(n)] {
			t.Errorf("no reason is %s", name)
		}
	}
}

func TestAnAnswerIsBoundedAndValidUTF8(t *testing.T) {
	t.Parallel()
	evil := updates.Release{Version: "1.0.0\xff", Reasons: []updates.Reason{{Kind: updates.IsBlocked, Message: strings.Repeat("\xff", 1<<20), Until: time.Unix(7, 0)}}}
	report := updates.Report{Feed: "\xff", Channel: "\xff", Offer: &evil}
	for range 2 * maxOthers {
		report.Others = append(report.Others, evil)
	}
	got, err := (&Server{Finder: finder{report: report}}).CheckUpdates(t.Context())
	if err != nil || len(got.GetOthers()) != maxOthers || got.GetAuto() != selfv1.Auto_AUTO_OFF {
		t.Fatalf("%d others, %v", len(got.GetOthers()), err)
	}
	r := got.GetOffer().GetReasons()[0]
	if len(r.GetMessage()) > 2*maxMessage || r.GetUntil().GetSeconds() != 7 || strings.Contains(got.String(), "\xff") {
		t.Errorf("%d bytes, until %v", len(r.GetMessage()), r.GetUntil())
	}
}

func TestAFeedInAFolderGivesAPath(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]fetch.Source{
		"file:///srv/feed/a%20b.raw": {Path: "/srv/feed/a b.raw"},
		"https://example.org/a.raw":  {URL: "https://example.org/a.raw"},
	} {
		got, err := (&Server{Finder: finder{source: fetch.Source{URL: url, MaxBytes: 7}}}).FeedSource(t.Context(), "")
		if err != nil || got.URL != want.URL || got.Path != want.Path || got.MaxBytes != 7 {
			t.Errorf("%s: %+v, %v", url, got, err)
		}
	}
}

func TestSecretsOfTheFeedAreNotShown(t *testing.T) {
	t.Parallel()
	got := policyToWire(updates.Policy{Feed: "https://user:secret@example.org/feed?token=secret"})
	if strings.Contains(got.String(), "secret") {
		t.Errorf("%v", got)
	}
}
