package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/trident-project/trident/proto/errkind"
)

// hostRequest is a call that waits for a connection.
type hostRequest struct {
	identity string // "" for any host
	result   chan HostConn
}

var errListenerClosed = errors.New("the listener is closed")

// take returns a connection that waits, or the next that comes.
func (l *Listener) take(ctx context.Context, identity string) (HostConn, error) {
	for {
		r, w, err := l.find(identity)
		if err != nil {
			return HostConn{}, err
		}
		if r == nil {
			if conn, ok := w.handOver(); ok {
				return conn, nil
			}
			continue // it has ended while it waited
		}
		select {
		case conn, ok := <-r.result:
			if !ok {
				return HostConn{}, errkind.With(errkind.Cancelled, errListenerClosed)
			}
			return conn, nil
		case <-ctx.Done():
			l.withdraw(r)
			return HostConn{}, notConnected(ctx, identity)
		}
	}
}

func notConnected(ctx context.Context, identity string) error {
	text := "no host has connected"
	if identity != "" {
		text = fmt.Sprintf("the host %q has not connected", identity)
	}
	err := errkind.With(cmp.Or(errkind.Of(context.Cause(ctx)), errkind.Unavailable), fmt.Errorf("%s: %w", text, context.Cause(ctx)))
	return errkind.WithHint(err, "See whether its agent runs, and what it logs: trident-gateway connect.")
}

// find takes a waiting connection out, or else registers a request for the next one.
func (l *Listener) find(identity string) (*hostRequest, *waiting, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, errkind.With(errkind.Cancelled, errListenerClosed)
	}
	name := identity
	if name == "" && len(l.order) > 0 {
		name = l.order[0]
	}
	if w := l.waiting[name]; w != nil {
		l.remove(w)
		return nil, w, nil
	}
	r := &hostRequest{identity, make(chan HostConn, 1)}
	l.requests = append(l.requests, r)
	return r, nil, nil
}

// withdraw removes a request. A connection that it was given already waits for the next one.
func (l *Listener) withdraw(r *hostRequest) {
	l.mu.Lock()
	l.requests = slices.DeleteFunc(l.requests, func(other *hostRequest) bool { return other == r })
	l.mu.Unlock()
	select {
	case conn, ok := <-r.result:
		if ok {
			l.offer(conn)
		}
	default:
	}
}

// remove removes w from the waiting connections. The caller holds l.mu.
func (l *Listener) remove(w *waiting) {
	name := w.conn.Identity
	if l.waiting[name] != w {
		return
	}
	delete(l.waiting, name)
	l.order = slices.DeleteFunc(l.order, func(other string) bool { return other == name })
}

// offer gives a connection to the oldest request for its host, or else lets it wait in place
// of an earlier one of the host.
func (l *Listener) offer(conn HostConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.IndexFunc(l.requests, func(r *hostRequest) bool { return r.identity == "" || r.identity == conn.Identity })
	old := l.waiting[conn.Identity]
	switch {
	case l.closed:
		_ = conn.Close()
		return
	case at >= 0:
		l.requests[at].result <- conn
		l.requests = slices.Delete(l.requests, at, at+1)
		return
	case old == nil && len(l.waiting) >= maxWaiting:
		l.logger.Warn("a host is refused: too many connections wait", "host", conn.Identity, "most", maxWaiting)
		_ = conn.Close()
		return
	}
	if old != nil {
		l.remove(old)
		_ = old.conn.Close()
	}
	w := &waiting{conn: conn, ended: make(chan struct{})}
	l.waiting[conn.Identity] = w
	l.order = append(l.order, conn.Identity)
	l.running.Go(func() {
		if w.watch() {
			l.mu.Lock()
			l.remove(w)
			l.mu.Unlock()
		}
	})
}
