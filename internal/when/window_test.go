package when

import (
	"testing"
	"time"
)

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
