package daemon

import (
	"log/slog"
	"os"

	"github.com/trident-project/trident/internal/observe"
	"github.com/trident-project/trident/internal/version"
)

// NewLogger returns the daemon's logger to stderr, or to the journal where
// stderr is that.
func NewLogger(stderr *os.File, level slog.Level) *slog.Logger {
	return observe.NewLogger(stderr, level, version.String())
}
