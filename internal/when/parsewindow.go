package when

import (
	"fmt"
	"strings"
	"time"
)

// ParseWindow parses a window: days, hours and a time zone, like
// "mon-fri,sun 02:00-05:00 Europe/Berlin". Days and time zone may be omitted. It does not
// check the window (see [Window.Validate]).
func ParseWindow(text string) (Window, error) {
	wrong := fmt.Errorf("%.80q is not a window, like %q", text, "mon-fri 02:00-05:00 Europe/Berlin")
	words := strings.Fields(text)
	var w Window
	var err error
	if len(words) > 0 && !strings.Contains(words[0], ":") {
		if w.Days, err = parseDays(words[0]); err != nil {
			return Window{}, err
		}
		words = words[1:]
	}
	if len(words) != 1 && len(words) != 2 {
		return Window{}, wrong
	}
	begin, end, _ := strings.Cut(words[0], "-")
	if w.Begin, err = ParseClock(begin); err != nil {
		return Window{}, err
	}
	if w.End, err = ParseClock(end); err != nil {
		return Window{}, err
	}
	if len(words) == 2 {
		w.TimeZone = words[1]
	}
	return w, nil
}

// parseDays parses days of the week and spans of them: "mon-fri,sun". It returns each day once.
func parseDays(text string) (days []time.Weekday, err error) {
	seen := map[time.Weekday]bool{}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isSpan := strings.Cut(part, "-")
		day, err := ParseDay(first)
		if err != nil {
			return nil, err
		}
		to := day
		if isSpan {
			if to, err = ParseDay(last); err != nil {
				return nil, err
			}
		}
		for ; ; day = (day + 1) % 7 {
			if !seen[day] {
				seen[day] = true
				days = append(days, day)
			}
			if day == to {
				break
			}
		}
	}
	return days, nil
}

// String returns w as ParseWindow reads it, with its time zone.
func (w Window) String() string {
	clock := func(minutes int) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }
	zone := w.TimeZone
	if zone == "" {
		zone = "UTC"
	}
	text := clock(w.Begin) + "-" + clock(w.End) + " " + zone
	var days []string
	for _, day := range w.Days {
		days = append(days, strings.ToLower(day.String()))
	}
	if len(days) > 0 {
		text = strings.Join(days, ",") + " " + text
	}
	return text
}
