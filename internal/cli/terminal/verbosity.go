package terminal

import (
	"cmp"
	"errors"
	"log/slog"
	"strings"
)

// Verbosity is the least severity that the command prints, by upstream's names. The default
// is INFO, and not upstream's DEBUG, which would hide the progress.
type Verbosity string

func VerbosityWords() []string { return []string{"OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"} }

const (
	levelTrace = slog.LevelDebug - 4
	levelOff   = slog.LevelError + 4
)

func (v Verbosity) String() string {
	return cmp.Or(string(v), "INFO")
}

func (Verbosity) Type() string { return "LEVEL" }

func (v *Verbosity) Set(s string) error {
	for _, word := range VerbosityWords() {
		if strings.EqualFold(s, word) {
			*v = Verbosity(word)
			return nil
		}
	}
	return errors.New("it must be one of " + strings.Join(VerbosityWords(), ", "))
}

// Level makes a verbosity a slog.Leveler.
func (v Verbosity) Level() slog.Level {
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
