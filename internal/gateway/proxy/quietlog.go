package proxy

import (
	"log/slog"
	"sync"
	"time"
)

// quietLog writes at most one line of a kind in quietTime, with the number of lines that it
// omitted: strangers can cause such lines without end.
type quietLog struct {
	logger *slog.Logger

	mu      sync.Mutex
	next    map[string]time.Time
	omitted map[string]int
}

const quietTime = time.Second

func newQuietLog(l *slog.Logger) *quietLog {
	return &quietLog{logger: l, next: map[string]time.Time{}, omitted: map[string]int{}}
}

// warn writes a line. There are few messages, which are constants.
func (q *quietLog) warn(message string, attrs ...any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if now.Before(q.next[message]) {
		q.omitted[message]++
		return
	}
	q.next[message] = now.Add(quietTime)
	if n := q.omitted[message]; n > 0 {
		attrs = append(attrs, "omitted", n)
	}
	q.omitted[message] = 0
	q.logger.Warn(message, attrs...)
}
