package self

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

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
	var err error
	if w.Begin, err = parseClock(begin); err != nil {
		return nil, err
	}
	if w.End, err = parseClock(end); err != nil {
		return nil, err
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
