package connect

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
)

const (
	// livedTime is how long a connection has to live for the next pause to be the first
	// again.
	livedTime = 5 * time.Second
	// returnSpread is the time over which agents return to a listener that has ended their
	// connections, so that the hosts of a fleet do not all return in the same moment.
	returnSpread = 10 * time.Second
	// usedSpread is the same for a connection that the listener had used. It is shorter,
	// because a program may wait for the host: a client of tridentd ends its connection when
	// tridentd says that it will restart. If the listener does not answer then, returnSpread
	// follows.
	usedSpread = 4 * time.Second
)

// Run keeps one connection to the listener of c, and passes it to tridentd when the listener
// uses it, until ctx ends. It downloads no files. It logs each failure once, and again after
// another outcome.
func Run(ctx context.Context, c Config, logger *slog.Logger) { newAgent(c, logger).run(ctx) }

type agent struct {
	config           Config
	logger           *slog.Logger
	environmentProxy func(*http.Request) (*url.URL, error)
	dialTCP          func(ctx context.Context, address string) (net.Conn, error)
	connect          func(context.Context) (halfConn, error)      // to the listener, with its handshake
	relay            func(context.Context, halfConn) (end, error) // to tridentd; see relay
	spread           time.Duration                                // see returnSpread
	dialTime         time.Duration                                // see dialTime

	pause     time.Duration // before the next attempt, before jitter
	state     string        // the connection or the failure that was logged last
	isRefusal bool          // state is a failure of an established connection
	wasUsed   bool          // the listener had used the last connection, which it ended
}

func newAgent(c Config, logger *slog.Logger) *agent {
	a := &agent{config: c, logger: logger, environmentProxy: http.ProxyFromEnvironment, dialTCP: dialTCP, spread: returnSpread, dialTime: dialTime, pause: c.MinPause}
	a.connect = func(ctx context.Context) (halfConn, error) { return a.dial(ctx) }
	a.relay = func(ctx context.Context, conn halfConn) (end, error) { return relay(ctx, conn, c.Socket) }
	return a
}

// run connects, again and again, until ctx ends.
func (a *agent) run(ctx context.Context) {
	a.logger.Info("the agent begins", "listener", a.config.ClientAddress, "socket", a.config.Socket)
	for ctx.Err() == nil && interrupt.Sleep(ctx, a.once(ctx)) == nil {
	}
	a.logger.Info("the agent ends")
}

// once makes one connection and serves it to its end. It returns the time until the next.
func (a *agent) once(ctx context.Context) time.Duration {
	began := time.Now()
	conn, err := a.connect(ctx)
	if err != nil {
		return a.failed(ctx, "cannot connect to the listener", err)
	}
	if !a.isRefusal { // else the same may happen again
		a.note(ctx, slog.LevelInfo, "connected to the listener")
	}
	a.wasUsed = false
	end, err := a.relay(ctx, conn)
	if err != nil {
		pause := a.failed(ctx, "the connection to the listener is of no use", err)
		a.isRefusal = true
		return pause
	}
	lived := time.Since(began)
	a.logger.Debug("the connection has ended", "by", end, "after", lived.Round(time.Millisecond))
	if end == unusedEnd && lived < livedTime {
		// A listener that takes connections and drops them, or that restarts twice.
		return max(a.backOff(), rand.N(a.spread))
	}
	a.isRefusal, a.pause = false, a.config.MinPause
	switch end {
	case daemonEnd:
		return jitter(a.config.MinPause) // only this host returns
	case listenerEnd:
		a.wasUsed = true
		return rand.N(min(usedSpread, a.spread))
	}
	return rand.N(a.spread)
}

// failed logs a failure and returns the pause after it.
func (a *agent) failed(ctx context.Context, what string, err error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	attributes := []any{"error", plain(err)}
	if hint := errkind.Hint(err); hint != "" {
		attributes = append(attributes, "hint", hint)
	}
	a.note(ctx, slog.LevelWarn, what+"; the agent tries again until it succeeds", attributes...)
	a.isRefusal = false
	if a.wasUsed {
		a.wasUsed = false
		return rand.N(a.spread)
	}
	return a.backOff()
}

// note logs the state of the agent, at level debug if it is the last one again.
func (a *agent) note(ctx context.Context, level slog.Level, state string, attributes ...any) {
	text := fmt.Sprint(append([]any{state}, attributes...)...)
	if text == a.state {
		level = slog.LevelDebug
	}
	a.state = text
	a.logger.Log(ctx, level, state, append(attributes, "listener", a.config.ClientAddress)...)
}

// backOff returns the next pause and doubles the one after it.
func (a *agent) backOff() time.Duration {
	pause := jitter(a.pause)
	a.pause = min(2*a.pause, a.config.MaxPause)
	return pause
}

// jitter returns a random time from half of d to d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// plain returns the text of an error without the local port of a connection and the present
// time, which would make each failure another one.
func plain(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Source != nil {
		return op.Op + ": " + op.Err.Error()
	}
	text := err.Error()
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		// The detail is "current time 2026-01-02T03:04:05Z is after 2026-01-01T00:00:00Z".
		if _, bound, ok := strings.Cut(invalid.Detail, " is "); ok {
			text = strings.Replace(text, invalid.Detail, "the time here is "+bound, 1)
		}
	}
	return text
}
