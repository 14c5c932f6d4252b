package jsonrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/envelope"
)

const (
	// writeTime is that of a Server; tests have a shorter one.
	writeTime = 10 * time.Second
	// maxRunning is how many messages of a WebSocket are answered at the same time. The
	// gateway reads no further ones meanwhile.
	maxRunning = 8
	// maxStrange is how many messages a caller may send without a login; the next one ends the
	// connection.
	maxStrange = 32
)

// socket is a WebSocket.
type socket struct {
	ws        *websocket.Conn
	writeTime time.Duration
	ctx       context.Context
	stop      context.CancelCauseFunc

	mu   sync.Mutex
	made int // subscriptions so far
	subs map[string]context.CancelFunc
	all  sync.WaitGroup
}

// serveSocket serves a WebSocket until the connection or stop ends.
func (c *conn) serveSocket(w http.ResponseWriter, r *http.Request, stop context.Context) {
	// The checks of Origin and Host are done.
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(maxRequest)
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	s := &socket{ws: ws, writeTime: c.writeTime, ctx: ctx, stop: cancel, subs: map[string]context.CancelFunc{}}
	c.socket = s
	defer s.all.Wait()
	defer cancel(errors.New("the connection has ended"))
	defer context.AfterFunc(stop, func() {
		_ = ws.Close(websocket.StatusGoingAway, "the gateway ends the connection")
		cancel(context.Canceled)
	})()
	s.all.Go(func() { s.keepAlive(c.gate.Settings().KeepAlive) })
	c.readSocket(ctx, s)
}

func (c *conn) readSocket(ctx context.Context, s *socket) {
	turns := make(chan struct{}, maxRunning)
	for strange := 0; ; {
		kind, data, err := s.ws.Read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			_ = s.ws.Close(websocket.StatusUnsupportedData, "send text messages only")
			return
		}
		if c.gate.Identity() == "" {
			if strange++; strange > maxStrange {
				_ = s.ws.Close(websocket.StatusPolicyViolation, "log in first")
				return
			}
		}
		if err := c.gate.Pass(ctx, len(data)); err != nil {
			return
		}
		m, fault := envelope.Parse(data)
		if fault != nil {
			if s.send(ctx, envelope.Answer(nil, nil, fault)) != nil {
				return
			}
			continue
		}
		if c.isQuick(m) {
			if s.reply(ctx, c, m) != nil {
				return
			}
			continue
		}
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		s.all.Go(func() {
			defer func() { <-turns }()
			_ = s.reply(ctx, c, m) // a failure has ended the connection
		})
	}
}

// isQuick reports whether a message is answered before the next one is read. That is so for a
// message with a login, so that the next message already has the rights of the person, and for a
// message that does not wait for tridentd.
func (c *conn) isQuick(m *envelope.Message) bool {
	if slices.ContainsFunc(m.Requests, func(r envelope.Request) bool { return r.Method == methodAuthenticate }) {
		return true
	}
	if m.IsBatch {
		return false
	}
	found := c.table.Find(m.Requests[0].Method)
	return found == nil || found.Call == nil && found.Name != methodSubscribe
}

func (s *socket) reply(ctx context.Context, c *conn, m *envelope.Message) error {
	a := c.answerMessage(ctx, m)
	if a == nil {
		return nil
	}
	if err := c.gate.Pass(ctx, len(a)); err != nil {
		return err
	}
	return s.send(ctx, a)
}

// send sends a message. If the caller does not read it in writeTime, the connection ends.
func (s *socket) send(ctx context.Context, data json.RawMessage) error {
	timed, cancel := context.WithTimeout(s.ctx, s.writeTime)
	defer cancel()
	if err := s.ws.Write(timed, websocket.MessageText, data); err != nil {
		err = fmt.Errorf("send to the caller: %w", err)
		s.stop(err)
		_ = s.ws.CloseNow()
		return err
	}
	return ctx.Err()
}

// keepAlive pings the caller, and ends the connection without an answer. It waits longer than a
// call may take, because the gateway does not read answers while maxRunning messages are being
// answered.
func (s *socket) keepAlive(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, callTime+s.writeTime)
		err := s.ws.Ping(ctx)
		cancel()
		if err != nil {
			s.stop(err)
			_ = s.ws.CloseNow()
			return
		}
	}
}

// begin begins a subscription and returns its name as soon as run calls started. If run fails
// before that, begin returns its error. Later the caller gets the end of run as notify.end.
func (s *socket) begin(ctx context.Context, run stream) (string, error) {
	inner, cancel := context.WithCancel(s.ctx)
	name, err := s.add(cancel)
	if err != nil {
		cancel()
		return "", err
	}
	started, failed := make(chan struct{}), make(chan error, 1)
	s.all.Go(func() {
		defer cancel()
		tell := sync.OnceFunc(func() { close(started) })
		err := run(inner, name, tell)
		wanted := s.end(name) // the caller has not ended it
		select {
		case <-started:
			if !wanted {
				return
			}
			_ = s.send(s.ctx, envelope.Notification("notify.end", endOf(name, err)))
		default:
			failed <- err
		}
	})
	select {
	case <-started:
		return name, nil
	case err = <-failed:
	case <-ctx.Done():
		err = context.Cause(ctx)
		cancel()
	}
	if err == nil { // the operation has ended, and there are no further events
		return name, s.send(s.ctx, envelope.Notification("notify.end", endOf(name, nil)))
	}
	return "", err
}

func endOf(name string, err error) json.RawMessage {
	out := map[string]any{"subscription": name}
	if err != nil && !errors.Is(err, context.Canceled) {
		out["error"] = toFault(err)
	}
	if at, ok := errors.AsType[*endedAt](err); ok {
		out["cursor"] = at.cursor
	}
	data, _ := json.Marshal(out) // of texts and numbers
	return data
}

func (s *socket) add(cancel context.CancelFunc) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.subs) >= maxSubscriptions {
		return "", errkind.WithHint(errkind.Errorf(errkind.TooLarge, "subscribe: this connection has %d subscriptions, which is the most", len(s.subs)), "end some with notifications.unsubscribe")
	}
	s.made++
	name := fmt.Sprintf("s%d", s.made)
	s.subs[name] = cancel
	return name, nil
}

// end ends a subscription; false if there is none of this name.
func (s *socket) end(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	cancel, ok := s.subs[name]
	if ok {
		delete(s.subs, name)
		cancel()
	}
	return ok
}
