package fetch

import (
	"context"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Meter is the bandwidth and the data that several readers share. It counts the
// bytes of bodies as they are read, not headers, nor what the kernel had taken
// in of an answer that was given up. Nil is no limit.
type Meter struct {
	rate    int64 // bytes per second; 0: no limit
	allowed int64 // bytes; 0: no limit
	wait    func(context.Context, time.Duration) error

	mu   sync.Mutex
	used int64
	free time.Time // when what was read is paid for
}

// NewMeter makes a meter for rate bytes per second and allowed bytes in all, of
// which used were used before (by an earlier run); 0 is no limit.
func NewMeter(rate, allowed, used int64) *Meter {
	return &Meter{rate: max(0, rate), allowed: max(0, allowed), used: max(0, used), wait: wait}
}

// Used returns the bytes that were used, those before included.
func (m *Meter) Used() int64 {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// admit says whether n bytes may be asked for. It promises nothing: another
// reader may be quicker.
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

// reserve takes up to n bytes of the budget, at least one, and waits for as long
// as the rate wants. What is not read after all is to be given back.
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

// settle says that of n bytes reserved only read came.
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
