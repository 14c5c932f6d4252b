package cli

import (
	"cmp"
	"errors"
	"log/slog"
	"strings"
)

// verbosity is the least severity that the command prints, by upstream's names. The default
// is INFO, and not upstream's DEBUG, which would hide the progress.
type verbosity string

func verbosityWords() []string { return []string{"OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"} }

const (
	levelTrace = slog.LevelDebug - 4
	levelOff   = slog.LevelError + 4
)

func (v verbosity) String() string {
	return cmp.Or(string(v), "INFO")
}

func (verbosity) Type() string { return "LEVEL" }

func (v *verbosity) Set(s string) error {
	for _, word := range verbosityWords() {
		if strings.EqualFold(s, word) {
			*v = verbosity(word)
			return nil
		}
	}
	return errors.New("it must be one of " + strings.Join(verbosityWords(), ", "))
}

// Level makes a verbosity a slog.Leveler.
func (v verbosity) Level() slog.Level {
	switch v.String() {
	case "OFF":
		return levelOff
	case "ERROR":
		return slog.LevelError
	case "WARN":
		return slog.LevelWarn
	case "DEBUG":
		return slog.LevelDebug
	case "TRACE":
		return levelTrace
	}
	return slog.LevelInfo
}
