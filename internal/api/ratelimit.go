package api

import (
	"log/slog"
	"sync"
	"time"
)

// logInterval is the minimum time between two log lines of one kind.
const logInterval = 10 * time.Second

// rateLimitedLog writes at most one log line in logInterval, with the number of lines that it
// omitted.
type rateLimitedLog struct {
	logger *slog.Logger

	mu      sync.Mutex
	next    time.Time
	omitted int
}

func newRateLimitedLog(logger *slog.Logger) *rateLimitedLog { return &rateLimitedLog{logger: logger} }

func (s *rateLimitedLog) warn(message string, attrs ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.next) {
		s.omitted++
		return
	}
	s.next = now.Add(logInterval)
	s.logger.Warn(message, append(attrs, "omitted", s.omitted)...)
	s.omitted = 0
}
