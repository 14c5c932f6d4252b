package when

import (
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// MinutesOfDay is the number of minutes of a day of 24 hours.
const MinutesOfDay = 24 * 60

// A Window is a span of the day on some days of the week. A window whose End is not later
// than its Begin ends on the following day.
type Window struct {
	// Days are the days on which the window begins; none means every day.
	Days []time.Weekday `json:"days,omitempty"`
	// Begin and End are minutes since midnight.
	Begin int `json:"begin"`
	End   int `json:"end"`
	// TimeZone is a name of the tz database; "" means UTC.
	TimeZone string `json:"timeZone,omitempty"`
}

// Validate returns an error of kind Invalid if a field of w is out of its range, or if this
// host does not know the time zone.
func (w Window) Validate() error {
	if w.Begin < 0 || w.Begin >= MinutesOfDay {
		return errkind.Errorf(errkind.Invalid, "the begin must be from 00:00 to 23:59")
	}
	if w.End < 0 || w.End > MinutesOfDay {
		return errkind.Errorf(errkind.Invalid, "the end must be from 00:00 to 24:00")
	}
	for _, day := range w.Days {
		if day < time.Sunday || day > time.Saturday {
			return errkind.Errorf(errkind.Invalid, "%d is not a day of the week, from 0 for Sunday to 6", int(day))
		}
	}
	if strings.EqualFold(w.TimeZone, "local") {
		return errkind.Errorf(errkind.Invalid, "%q is not a name of the tz database; use a name like Europe/Berlin, or UTC", w.TimeZone)
	}
	if _, err := w.location(); err != nil {
		err := errkind.Errorf(errkind.Invalid, "%.80q is not a time zone of this host: %w", w.TimeZone, err)
		return errkind.WithHint(err, "Use a name like Europe/Berlin, or UTC. If the name is right, install the tz database (package tzdata).")
	}
	return nil
}

// location returns the time zone of w.
func (w Window) location() (*time.Location, error) {
	if w.TimeZone == "" {
		return time.UTC, nil
	}
	return time.LoadLocation(w.TimeZone)
}

// At reports whether t is inside of w, and when that changes: the end of the present span, or
// the begin of the next one. w must be valid ([Window.Validate]).
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
			length += MinutesOfDay
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
