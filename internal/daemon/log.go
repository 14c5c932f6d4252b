package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// NewLogger returns a logger to stderr. Where stderr is the journal each line
// has its priority in front, as sd-daemon(3) has it, and no time: the journal
// knows it.
func NewLogger(stderr *os.File, level slog.Level) *slog.Logger {
	if isJournal(stderr, os.Getenv("JOURNAL_STREAM")) {
		return slog.New(newJournalHandler(stderr, level))
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
}

// isJournal compares a file with $JOURNAL_STREAM (systemd.exec(5)).
func isJournal(f *os.File, stream string) bool {
	var st unix.Stat_t
	if stream == "" || unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// journalHandler puts the priority of a record before its line.
type journalHandler struct {
	slog.Handler
	out *journalWriter
}

// journalWriter is one line at a time: a TextHandler writes a record at once.
type journalWriter struct {
	mu       sync.Mutex
	priority string
	out      io.Writer
}

func newJournalHandler(out io.Writer, level slog.Level) journalHandler {
	w := &journalWriter{out: out}
	return journalHandler{out: w, Handler: slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		},
	})}
}

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.priority = priority(r.Level)
	return h.Handler.Handle(ctx, r)
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journalHandler{h.Handler.WithAttrs(attrs), h.out}
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	return journalHandler{h.Handler.WithGroup(name), h.out}
}

// Write is called by the TextHandler only, within Handle.
func (w *journalWriter) Write(line []byte) (int, error) {
	if _, err := w.out.Write(append([]byte(w.priority), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// priority is a level in the words of syslog(3).
func priority(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "<7>"
	case l < slog.LevelWarn:
		return "<6>"
	case l < slog.LevelError:
		return "<4>"
	}
	return "<3>"
}
