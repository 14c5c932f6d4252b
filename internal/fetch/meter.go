package fetch

import (
	"context"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
)

// Meter limits the bandwidth and the data of several readers together. It counts the bytes
// of bodies that are read; it does not count headers, nor bytes that the kernel received
// for an abandoned answer. A nil Meter has no limits.
type Meter struct {
	rate    int64 // bytes per second; 0: no limit
	allowed int64 // bytes; 0: no limit
	wait    func(context.Context, time.Duration) error

	mu   sync.Mutex
	used int64
	free time.Time // when the rate allows the next read
	file string    // has the used bytes; "": nothing remembers them
	kept int64     // what the file says, at least used
}

// NewMeter returns a Meter for rate bytes per second and allowed bytes in all, of which an
// earlier run has used used; 0 means no limit.
func NewMeter(rate, allowed, used int64) *Meter {
	return &Meter{rate: max(0, rate), allowed: max(0, allowed), used: max(0, used), wait: interrupt.Sleep}
}

// Used returns the bytes used so far, earlier runs included.
func (m *Meter) Used() int64 {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// admit fails if the budget has less than n bytes. It reserves nothing: another reader may
// take them first.
func (m *Meter) admit(n int64) error {
	if m == nil || m.allowed == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n <= m.allowed-m.used {
		return nil
	}
	err := errkind.Errorf(errkind.TooLarge, "the data budget does not suffice: %d of %d bytes are used, %d more are needed", m.used, m.allowed, n)
	return errkind.WithHint(err, "Raise the data budget, or serve the image from a place that is not metered.")
}

// reserve takes one to n bytes from the budget and waits as long as the rate requires. The
// caller returns bytes that it does not read, with settle.
func (m *Meter) reserve(ctx context.Context, n int) (int, error) {
	if m == nil {
		return n, nil
	}
	if m.rate > 0 {
		n = min(n, int(max(m.rate/8, 4<<10)))
	}
	if err := m.admit(1); err != nil {
		return 0, err
	}
	m.mu.Lock()
	if m.allowed > 0 {
		n = int(min(int64(n), m.allowed-m.used))
	}
	if err := m.keep(m.used + int64(n)); err != nil {
		m.mu.Unlock()
		return 0, err
	}
	m.used += int64(n)
	pause := time.Until(m.free)
	m.mu.Unlock()
	if n == 0 { // another reader took the last
		return 0, m.admit(1)
	}
	if m.rate > 0 && pause > 0 {
		if err := m.wait(ctx, pause); err != nil {
			m.settle(n, 0)
			return 0, err
		}
	}
	return n, nil
}

// settle returns the reserved bytes of n that were not read.
func (m *Meter) settle(n, read int) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= int64(n - read)
	if m.rate > 0 {
		now := time.Now()
		if m.free.Before(now) {
			m.free = now
		}
		m.free = m.free.Add(time.Duration(float64(read) / float64(m.rate) * float64(time.Second)))
	}
}
