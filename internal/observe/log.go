package observe

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// NewLogger returns a logger that writes to stderr. If stderr is connected to the journal,
// it sends records with fields there; see journalHandler.
func NewLogger(stderr *os.File, level slog.Level, version string) *slog.Logger {
	if isJournal(stderr, os.Getenv("JOURNAL_STREAM")) {
		return slog.New(callHandler{newJournalHandler(stderr, journalSocket, level, version)})
	}
	return slog.New(callHandler{slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})})
}

// isJournal reports whether f is the stream of $JOURNAL_STREAM (systemd.exec(5)).
func isJournal(f *os.File, stream string) bool {
	var st unix.Stat_t
	if stream == "" || unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// callHandler adds the IDs of the request and the trace to the records of a call.
type callHandler struct{ slog.Handler }

func (h callHandler) Handle(ctx context.Context, r slog.Record) error {
	if c := callOf(ctx); c != nil {
		r = r.Clone()
		r.AddAttrs(slog.String("request", c.request))
		if c.trace != "" {
			r.AddAttrs(slog.String("trace", c.trace))
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h callHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return callHandler{h.Handler.WithAttrs(attrs)}
}

func (h callHandler) WithGroup(name string) slog.Handler {
	return callHandler{h.Handler.WithGroup(name)}
}
