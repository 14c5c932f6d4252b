package api

import (
	"sync"
	"time"
)

// Bounds of the log of calls. journald accepts 10,000 lines of a service in 30 s, and
// then drops all further lines of the service.
const (
	burstOfLines   = 200 // of one process, at once
	linesPerSecond = 10  // of one process, from then on
	maxQuotas      = 256 // processes with a quota of their own
)

// lineQuota bounds how many calls of a process are logged.
type lineQuota struct {
	mu    sync.Mutex
	quota map[int32]quota // by process ID
}

type quota struct {
	lines float64
	at    time.Time
}

func newLineQuota() *lineQuota { return &lineQuota{quota: map[int32]quota{}} }

// take reports whether one more call of a process may be logged now.
func (l *lineQuota) take(pid int32, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	q, known := l.quota[pid]
	if !known {
		if len(l.quota) >= maxQuotas {
			clear(l.quota)
		}
		q = quota{burstOfLines, now}
	}
	q.lines = min(burstOfLines, q.lines+linesPerSecond*now.Sub(q.at).Seconds())
	q.at = now
	enough := q.lines >= 1
	if enough {
		q.lines--
	}
	l.quota[pid] = q
	return enough
}
