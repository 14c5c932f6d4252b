// Package limit bounds what each caller of the gateway uses: calls, streams, connections,
// bytes, and attempts to log in. What it remembers is bounded, too.
package limit

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
)

// A bucket is a token bucket: it fills with rate per second, up to burst.
type bucket struct {
	level float64
	at    time.Time
}

func (b *bucket) fill(rate, burst float64, now time.Time) {
	if b.at.IsZero() {
		b.level = burst
	} else {
		b.level = min(burst, b.level+rate*now.Sub(b.at).Seconds())
	}
	b.at = now
}

// Bounds of one identity; 0 in BytesPerSecond is no bound.
type Bounds struct {
	CallsPerSecond, Streams, Connections int
	BytesPerSecond                       int64
}

// Callers counts what identities use.
type Callers struct {
	mu     sync.Mutex
	bounds Bounds
	of     map[string]*caller
}

type caller struct {
	streams, connections int
	calls, bytes         bucket
}

// maxIdle is how many identities without a connection or call are remembered.
const maxIdle = 4096

// NewCallers returns an empty count.
func NewCallers(b Bounds) *Callers { return &Callers{bounds: b, of: map[string]*caller{}} }

// SetBounds replaces the bounds for what begins from now on.
func (c *Callers) SetBounds(b Bounds) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bounds = b
}

// get returns the counts of an identity. The caller holds c.mu.
func (c *Callers) get(who string) *caller {
	if u, ok := c.of[who]; ok {
		return u
	}
	if len(c.of) >= maxIdle {
		for other, u := range c.of {
			if u.streams == 0 && u.connections == 0 {
				delete(c.of, other)
			}
		}
	}
	u := &caller{}
	c.of[who] = u
	return u
}

// Connect counts a connection of an identity until end is called. It fails with TooLarge if
// the identity has as many as it may have.
func (c *Callers) Connect(who string) (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.get(who)
	if u.connections >= c.bounds.Connections {
		return nil, errkind.WithHint(
			errkind.Errorf(errkind.TooLarge, "connect for %s: it has %d connections, which is the most", who, u.connections),
			"use one connection for many calls, or raise limits.perIdentity.connections")
	}
	u.connections++
	return sync.OnceFunc(func() { c.mu.Lock(); defer c.mu.Unlock(); u.connections-- }), nil
}

// Begin counts a call of an identity until end is called. It fails with TooLarge if the
// identity has too many running calls, and with Unavailable if it made too many lately.
func (c *Callers) Begin(who string, now time.Time) (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, rate := c.get(who), float64(c.bounds.CallsPerSecond)
	if u.streams >= c.bounds.Streams {
		return nil, errkind.WithHint(
			errkind.Errorf(errkind.TooLarge, "call for %s: it has %d running calls, which is the most", who, u.streams),
			"wait for calls to end, or raise limits.perIdentity.streams")
	}
	u.calls.fill(rate, 2*rate, now)
	if u.calls.level < 1 {
		return nil, errkind.WithHint(
			errkind.Errorf(errkind.Unavailable, "call for %s: it made more than %d calls a second", who, c.bounds.CallsPerSecond),
			"call less often, or raise limits.perIdentity.callsPerSecond")
	}
	u.calls.level--
	u.streams++
	return sync.OnceFunc(func() { c.mu.Lock(); defer c.mu.Unlock(); u.streams-- }), nil
}

// Pass counts bytes of an identity and waits as long as they are too many, or until ctx
// ends.
func (c *Callers) Pass(ctx context.Context, who string, n int, now time.Time) error {
	wait := c.spend(who, n, now)
	if wait <= 0 {
		return nil
	}
	return interrupt.Sleep(ctx, wait)
}

// spend counts bytes and returns how long the identity has to wait. A message may be larger
// than the rate: the bucket then owes bytes.
func (c *Callers) spend(who string, n int, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	rate := float64(c.bounds.BytesPerSecond)
	if rate == 0 {
		return 0
	}
	u := c.get(who)
	u.bytes.fill(rate, rate, now)
	u.bytes.level -= float64(n)
	if u.bytes.level >= 0 {
		return 0
	}
	return time.Duration(-u.bytes.level / rate * float64(time.Second))
}

// Bounds of attempts to log in that failed.
const (
	maxSources = 4096
	// maxSlowed attempts are answered late at a time, in all; the others are refused.
	maxSlowed = 64
	slowest   = 3 * time.Second
)

// Logins slows the attempts to log in of sources that failed often. A valid credential is
// never slowed, because nobody can guess one; so a source cannot lock out another caller
// behind the same address.
type Logins struct {
	mu      sync.Mutex
	perMin  int
	of      map[netip.Prefix]*bucket
	waiting int
}

// NewLogins returns a count that permits perMinute failures of a source without delay.
func NewLogins(perMinute int) *Logins {
	return &Logins{perMin: perMinute, of: map[netip.Prefix]*bucket{}}
}

// Failed counts a failure of a source, and waits before the source gets its answer, or until
// ctx ends. It returns false at once if too many sources wait: end the connection then.
func (l *Logins) Failed(ctx context.Context, source netip.Addr, now time.Time) bool {
	delay := l.delay(source, now)
	if delay == 0 {
		return true
	}
	if !l.enter() {
		return false
	}
	defer l.leave()
	_ = interrupt.Sleep(ctx, delay) // shorter for a caller who is gone
	return true
}

func (l *Logins) delay(source netip.Addr, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := Source(source)
	b, ok := l.of[key]
	if !ok {
		if len(l.of) >= maxSources {
			clear(l.of)
		}
		b = &bucket{}
		l.of[key] = b
	}
	burst := float64(l.perMin)
	b.fill(burst/60, burst, now)
	b.level = max(b.level-1, -burst)
	if b.level >= 0 {
		return 0
	}
	return min(slowest, time.Duration(-b.level*float64(100*time.Millisecond)))
}

func (l *Logins) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting >= maxSlowed {
		return false
	}
	l.waiting++
	return true
}

func (l *Logins) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
}

// Source returns the network that counts as one source: an IPv4 address, or the /64 of an
// IPv6 address, which one host can have to itself (RFC 4291, 2.5.4).
func Source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero prefix for no address
	return p
}
