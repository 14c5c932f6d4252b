package systemd

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

// JournalTail returns the journal of units from since on: whole lines with times, and
// not more than the last maxBytes. It is evidence for people, and may have secrets that
// the units logged. If the clock was set back after since, the result may have older
// lines, too.
func JournalTail(ctx context.Context, tools run.Runner, units []string, since time.Time, maxBytes int) ([]byte, error) {
	// Have the journal write the latest lines. A failure does not matter: evidence
	// without the latest lines is better than no evidence.
	_, _ = tools.Run(ctx, "journalctl", "--sync")
	args := []string{"--no-pager", "--quiet", "--output=short-iso"}
	if from := earliest(since, time.Since(since), time.Now()); !from.IsZero() {
		args = append(args, "--since=@"+strconv.FormatInt(from.Unix(), 10))
	}
	for _, unit := range units {
		args = append(args, "--unit="+unit)
	}
	for lines := 2000; ; lines /= 10 {
		out, err := tools.Run(ctx, "journalctl", append(slices.Clip(args), "--lines="+strconv.Itoa(lines))...)
		if errkind.Of(err) == errkind.TooLarge && lines > 2 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the journal of %v: %w", units, err)
		}
		return lastLines(out, maxBytes), nil
	}
}

// earliest returns the earliest time that the journal can have for lines logged after since,
// which was elapsed before now. It returns the zero time if the clock was set back so far
// that the time is unknown.
func earliest(since time.Time, elapsed time.Duration, now time.Time) time.Time {
	if by := now.Round(0).Add(-elapsed); by.Before(since) { // by today's clock
		since = by
	}
	if since.Round(0).After(now.Round(0)) {
		return time.Time{}
	}
	return since
}

func lastLines(text []byte, maxBytes int) []byte {
	if len(text) <= maxBytes {
		return text
	}
	cut := text[len(text)-maxBytes:]
	if text[len(text)-maxBytes-1] == '\n' {
		return cut
	}
	_, whole, _ := bytes.Cut(cut, []byte("\n"))
	return whole
}
