package updates

import (
	"fmt"
	"time"

	"github.com/trident-project/trident/internal/settingsfile"
	"github.com/trident-project/trident/internal/when"
)

// readHold reads the hold of: forever, a time, or a mapping with until and reason.
func readHold(to **Hold) func(settingsfile.Value) error {
	return func(v settingsfile.Value) error {
		hold := &Hold{}
		*to = hold
		until := settingsfile.Parsed(&hold.Until, parseUntil)
		if !v.IsMapping() {
			return until(v)
		}
		return v.Read(settingsfile.Keys{
			"until":  until,
			"reason": func(v settingsfile.Value) (err error) { hold.Reason, err = v.Text(); return err }, // of several lines
		})
	}
}

// readWindow reads the window of a text, or of a mapping with days, begin, end and timeZone.
func readWindow(to **when.Window) func(settingsfile.Value) error {
	return func(v settingsfile.Value) error {
		w := &when.Window{Begin: -1, End: -1}
		*to = w
		if !v.IsMapping() && !v.IsList() {
			return settingsfile.Parsed(w, when.ParseWindow)(v)
		}
		err := v.Read(settingsfile.Keys{
			"days":     settingsfile.List(&w.Days, readDay),
			"begin":    settingsfile.Parsed(&w.Begin, when.ParseClock),
			"end":      settingsfile.Parsed(&w.End, when.ParseClock),
			"timeZone": settingsfile.Text(&w.TimeZone),
		})
		if err == nil && (w.Begin < 0 || w.End < 0) {
			err = v.Errorf("needs begin and end")
		}
		return err
	}
}

func readDay(to *time.Weekday) func(settingsfile.Value) error {
	return settingsfile.Parsed(to, when.ParseDay)
}

// parseUntil parses the end of a hold; the zero time means never.
func parseUntil(text string) (time.Time, error) {
	if text == "forever" {
		return time.Time{}, nil
	}
	t, err := when.ParseTime(text)
	if err != nil {
		err = fmt.Errorf("%w, or forever", err)
	}
	return t, err
}
