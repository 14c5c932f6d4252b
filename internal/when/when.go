// Package when parses the times that people write in settings and flags, and says when a
// window of the week is open.
package when

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// longest is the longest span that ParseSpan accepts.
const longest = 100 * 365 * 24 * time.Hour

// ParseSpan parses a span of time: numbers with the units w, d, h, m and s, like 7d, 36h or
// 1w2d, or 0. It fails for a span of more than 100 years.
func ParseSpan(text string) (total time.Duration, err error) {
	units := map[byte]time.Duration{'w': 7 * 24 * time.Hour, 'd': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute, 's': time.Second}
	wrong := fmt.Errorf("%.80q is not a span of time, like 7d or 36h", text)
	if text == "0" {
		return 0, nil
	}
	for rest := text; ; {
		at := strings.IndexAny(rest, "wdhms")
		if at < 0 {
			return 0, wrong
		}
		n, err := strconv.ParseUint(rest[:at], 10, 31)
		unit := units[rest[at]]
		if err != nil || time.Duration(n) > (longest-total)/unit {
			return 0, wrong
		}
		total += time.Duration(n) * unit
		if rest = rest[at+1:]; rest == "" {
			return total, nil
		}
	}
}

// FormatSpan returns a span as ParseSpan reads it: in days if it has no part of a day.
func FormatSpan(d time.Duration) string {
	const day = 24 * time.Hour
	if d != 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

// ParseTime parses a date, which begins at midnight UTC, or a time of RFC 3339.
func ParseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.80q is not a date like 2026-12-24, or a time like 2026-12-24T06:00:00Z", text)
}

// ParseClock parses a time of the day from 0:00 to 24:00, and returns the minutes since
// midnight.
func ParseClock(text string) (int, error) {
	hour, minute, ok := strings.Cut(text, ":")
	h, herr := strconv.ParseUint(hour, 10, 8)
	m, merr := strconv.ParseUint(minute, 10, 8)
	if !ok || len(minute) != 2 || len(hour) > 2 || herr != nil || merr != nil || m > 59 || h*60+m > MinutesOfDay {
		return 0, fmt.Errorf("%.80q is not a time of the day, like 02:00", text)
	}
	return int(h*60 + m), nil
}

// ParseDay parses the English name of a day of the week, or its first three letters.
func ParseDay(text string) (time.Weekday, error) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if name := day.String(); strings.EqualFold(text, name) || strings.EqualFold(text, name[:3]) {
			return day, nil
		}
	}
	return 0, fmt.Errorf("%.80q is not a day of the week, like mon", text)
}
