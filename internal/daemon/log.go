package daemon

import (
	"log/slog"
	"os"

	"github.com/trident-project/trident/internal/observe"
	"github.com/trident-project/trident/internal/version"
)

// NewLogger returns the daemon's logger, which writes to stderr, or to the journal if
// stderr is connected to it.
func NewLogger(stderr *os.File, level slog.Level) *slog.Logger {
	return observe.NewLogger(stderr, level, version.String())
}
