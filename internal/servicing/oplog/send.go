package oplog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/interrupt"
)

// Limits of the messages to one server.
const (
	maxQueue    = 1000            // messages
	maxQueued   = 4 << 20         // bytes
	sendTime    = 5 * time.Second // of one message
	maxFailures = 3               // in a row; then the server gets nothing more of the operation
	maxSenders  = 3 * 4           // of the last operations
)

// sender sends messages to one server, one after the other, in the order of send. It has a
// goroutine only while it has messages.
type sender struct {
	name   string
	url    string
	shown  string // url, without its secrets
	client *http.Client
	logger *slog.Logger
	ctx    context.Context // ends with close
	stop   context.CancelFunc

	mu      sync.Mutex
	queue   []message
	bytes   int
	busy    bool
	idle    chan struct{} // closed when busy ends; nil if nobody waits
	dropped int
	failed  int  // in a row
	lost    bool // the server gets nothing more
}

// message is a body to send. With limit it is sent again until the server accepts it, for
// that time.
type message struct {
	body         func(attempt int) []byte
	size         int
	limit, pause time.Duration
}

func newSender(name string, to *url.URL, logger *slog.Logger) *sender {
	shown := *to
	shown.User, shown.RawQuery, shown.Fragment = nil, "", ""
	ctx, stop := context.WithCancel(context.Background())
	return &sender{
		name: name, url: to.String(), shown: shown.String(), logger: logger, ctx: ctx, stop: stop,
		client: &http.Client{
			Timeout: sendTime,
			// What is reported is for the configured server, and for no other.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// send queues a message; nil is none. It drops the message if the queue is full or the server
// is lost.
func (s *sender) send(body []byte) {
	if body != nil {
		s.add(message{body: func(int) []byte { return body }, size: len(body)})
	}
}

// insist queues a message that the server has to accept within limit; otherwise the server
// gets none of the later ones.
func (s *sender) insist(limit, pause time.Duration, body func(attempt int) []byte) {
	s.add(message{body: body, limit: limit, pause: pause})
}

func (s *sender) add(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost || len(s.queue) >= maxQueue || s.bytes+m.size > maxQueued {
		s.dropped++
		return
	}
	s.queue, s.bytes = append(s.queue, m), s.bytes+m.size
	if !s.busy {
		s.busy = true
		go s.run()
	}
}

// next takes the first message. Without one, or after close, the goroutine ends.
func (s *sender) next() (message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost || s.ctx.Err() != nil {
		s.dropped += len(s.queue)
		s.queue, s.bytes = nil, 0
	}
	if len(s.queue) == 0 {
		s.busy = false
		if s.dropped > 0 {
			s.logger.Warn("reports are dropped", "to", s.name, "url", s.shown, "dropped", s.dropped)
			s.dropped = 0
		}
		if s.idle != nil {
			close(s.idle)
			s.idle = nil
		}
		return message{}, false
	}
	m := s.queue[0]
	s.queue, s.bytes = s.queue[1:], s.bytes-m.size
	return m, true
}

func (s *sender) run() {
	for {
		m, ok := s.next()
		if !ok {
			return
		}
		s.note(m, s.deliver(m))
	}
}

// note counts a failure, and gives the server up after too many.
func (s *sender) note(m message, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.failed = 0
		return
	}
	if s.failed++; s.failed >= maxFailures || m.limit > 0 {
		s.lost = true
	}
	if s.failed == 1 || s.lost {
		s.logger.Warn("cannot report what the operation does", "to", s.name, "url", s.shown, "error", err, "given up", s.lost)
	}
}

// deliver posts a message, and again if it has a limit.
func (s *sender) deliver(m message) error {
	ctx := s.ctx
	if m.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.limit)
		defer cancel()
	}
	for attempt := 0; ; attempt++ {
		err := s.post(ctx, m.body(attempt))
		if err == nil || m.limit == 0 {
			return err
		}
		if interrupt.Sleep(ctx, m.pause) != nil {
			return err
		}
	}
}

// post posts a body. A status beyond 2xx is an error.
func (s *sender) post(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL is malformed")
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the URL, which may have a secret
		}
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection is used again
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("the server answers %q", response.Status)
	}
	return nil
}

// close waits until the queue is empty or ctx ends, then drops what is left and ends the
// goroutine.
func (s *sender) close(ctx context.Context) {
	s.mu.Lock()
	var idle chan struct{}
	if s.busy {
		if s.idle == nil {
			s.idle = make(chan struct{})
		}
		idle = s.idle
	}
	s.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	s.stop()
	if idle != nil {
		<-idle
	}
	s.client.CloseIdleConnections()
}
