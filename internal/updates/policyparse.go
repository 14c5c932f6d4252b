package updates

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseUntil parses the end of a hold.
func parseUntil(text string) (time.Time, error) {
	if text == "forever" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.80q is not forever, a date like 2026-12-24, or a time like 2026-12-24T06:00:00Z", text)
}

// parseMinutes parses a time of the day, and returns the minutes since midnight.
func parseMinutes(text string) (int, error) {
	hour, minute, ok := strings.Cut(text, ":")
	h, herr := strconv.ParseUint(hour, 10, 8)
	m, merr := strconv.ParseUint(minute, 10, 8)
	if !ok || len(minute) != 2 || len(hour) > 2 || cmp.Or(herr, merr) != nil || m > 59 || h*60+m > minutesOfDay {
		return 0, fmt.Errorf("%.80q is not a time of the day, like 02:00", text)
	}
	return int(h*60 + m), nil
}

// parseDay parses a day of the week, or its first three letters.
func parseDay(text string) (time.Weekday, error) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if name := day.String(); strings.EqualFold(text, name) || strings.EqualFold(text, name[:3]) {
			return day, nil
		}
	}
	return 0, fmt.Errorf("%.80q is not a day of the week, like mon", text)
}

// parseBytes parses a number of bytes, or of units of 1024, 1024², … bytes: K, M, G, T.
func parseBytes(text string) (int64, error) {
	digits, unit := text, 0
	if at := strings.IndexAny("KMGT", text[max(0, len(text)-1):]); text != "" && at >= 0 {
		digits, unit = text[:len(text)-1], at+1
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > 1<<62>>(10*unit) {
		return 0, fmt.Errorf("%.80q is not a number of bytes, like 100M", text)
	}
	return int64(n) << (10 * unit), nil
}

// parseSpan parses a span of time, like 7d, 36h or 1w2d.
func parseSpan(text string) (total time.Duration, err error) {
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
		if err != nil || time.Duration(n) > maxGrace/unit {
			return 0, wrong
		}
		if total += time.Duration(n) * unit; total > maxGrace {
			return 0, wrong
		}
		if rest = rest[at+1:]; rest == "" {
			return total, nil
		}
	}
}
