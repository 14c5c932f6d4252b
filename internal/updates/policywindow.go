package updates

import (
	"slices"
	"time"
)

// minutesOfDay is the number of minutes of a day of 24 hours.
const minutesOfDay = 24 * 60

// location returns the time zone of w.
func (w Window) location() (*time.Location, error) {
	if w.TimeZone == "" {
		return time.UTC, nil
	}
	return time.LoadLocation(w.TimeZone)
}

// At reports whether t is inside of w, and when that changes: the end of the present span, or
// the begin of the next one. w must be valid ([Policy.Validate]).
//
// A span begins and ends when the clock of the time zone first shows at least that time of
// the day. So a span that begins in an hour that the clock skips begins right after that
// hour, and a span that lies in a skipped hour does not take place.
func (w Window) At(t time.Time) (inside bool, change time.Time) {
	zone, err := w.location()
	if err != nil {
		return false, time.Time{}
	}
	local := t.In(zone)
	for day := -1; day <= 15; day++ { // 15: the only day of one week may lie in a skipped hour
		date := time.Date(local.Year(), local.Month(), local.Day()+day, 12, 0, 0, 0, time.UTC)
		if len(w.Days) > 0 && !slices.Contains(w.Days, date.Weekday()) {
			continue
		}
		length := w.End - w.Begin
		if length <= 0 {
			length += minutesOfDay
		}
		begin, end := firstAt(date, w.Begin, zone), firstAt(date, w.Begin+length, zone)
		switch {
		case !end.After(begin) || !t.Before(end):
			continue
		case t.Before(begin):
			return false, begin
		}
		return true, end
	}
	return false, time.Time{}
}

// firstAt returns the first moment at which the clock of zone shows at least the given minutes
// after midnight of date.
func firstAt(date time.Time, minutes int, zone *time.Location) time.Time {
	wall := time.Date(date.Year(), date.Month(), date.Day(), 0, minutes, 0, 0, time.UTC)
	early := wall.Add(-offset(wall.Add(-24*time.Hour), zone))
	late := wall.Add(-offset(wall.Add(24*time.Hour), zone))
	for _, t := range []time.Time{earlier(early, late), late, early} {
		if wall.Add(-offset(t, zone)).Equal(t) {
			return t
		}
	}
	// The clock skips this time of the day, and early is after the change of the offset.
	change, _ := early.In(zone).ZoneBounds()
	return change
}

// offset returns how far the clock of zone is ahead of UTC at t.
func offset(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
