package when

import (
	"reflect"
	"testing"
	"time"
)

const day = 24 * time.Hour

func TestSpansAreReadAndWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "7d": 7 * day, "36h": 36 * time.Hour, "1w2d": 9 * day, "1h30m": 90 * time.Minute, "90s": 90 * time.Second, "36500d": 36500 * day,
	} {
		got, err := ParseSpan(text)
		if err != nil || got != want {
			t.Errorf("%q: got %s, %v; want %s", text, got, err, want)
		}
		if again, err := ParseSpan(FormatSpan(want)); err != nil || again != want {
			t.Errorf("%q: written as %q, which is read as %s, %v", text, FormatSpan(want), again, err)
		}
	}
	for _, text := range []string{"", "7", "-7d", "d", "7d3", "1.5h", "500ms", "7 d", "36501d", "18250d18251d", "99999999w", "99999999999999999999s"} {
		if got, err := ParseSpan(text); err == nil {
			t.Errorf("%q: got %s, want an error", text, got)
		}
	}
}

func TestTimesOfTheCalendarAndOfTheDayAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"2026-12-24":                time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC),
		"2026-12-24T02:00:00+02:00": time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := ParseTime(text); err != nil || got != want {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
	}
	for text, want := range map[string]int{"0:00": 0, "02:00": 120, "23:59": 1439, "24:00": MinutesOfDay} {
		if got, err := ParseClock(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "2", "2:0", "25:00", "24:01", "02:60", "-1:00", "002:00", "2:00:00"} {
		if got, err := ParseClock(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

func TestWindowsAreReadAndWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Window{
		"02:00-24:00":                          {Begin: 120, End: 1440},
		"sat-mon,wed 22:00-05:00 Asia/Tokyo":   {Days: []time.Weekday{6, 0, 1, 3}, Begin: 1320, End: 300, TimeZone: "Asia/Tokyo"},
		"monday,mon-tue 02:00-05:00":           {Days: []time.Weekday{1, 2}, Begin: 120, End: 300},
		"sunday-sun  0:00-1:00  Europe/Berlin": {Days: []time.Weekday{0}, End: 60, TimeZone: "Europe/Berlin"},
	} {
		got, err := ParseWindow(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
		if want.TimeZone == "" {
			want.TimeZone = "UTC"
		}
		if again, err := ParseWindow(got.String()); err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%q: written as %q, which is read as %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "mon", "02:00", "02:00-", "mon- 02:00-05:00", "someday 02:00-05:00", "mon tue 02:00-05:00", "02:00-05:00 Asia Tokyo"} {
		if got, err := ParseWindow(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, got)
		}
	}
}
