package systemd

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

// JournalTail returns what units said since then, at most the last maxBytes of
// it and only whole lines. It is evidence for people: times are in it, secrets
// are as far as the units logged them.
func JournalTail(ctx context.Context, tools run.Runner, units []string, since time.Time, maxBytes int) ([]byte, error) {
	// What was just logged may not have been filed. Evidence that lacks a line
	// is better than none, so this may fail.
	_, _ = tools.Run(ctx, "journalctl", "--sync")
	for lines := 2000; ; lines /= 10 {
		args := []string{"--no-pager", "--quiet", "--output=short-iso", "--since=@" + strconv.FormatInt(since.Unix(), 10), "--lines=" + strconv.Itoa(lines)}
		for _, unit := range units {
			args = append(args, "--unit="+unit)
		}
		out, err := tools.Run(ctx, "journalctl", args...)
		if errkind.Of(err) == errkind.TooLarge && lines > 2 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the journal of %v: %w", units, err)
		}
		return lastLines(out, maxBytes), nil
	}
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
