//go:build vm

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/trident-project/trident/proto/client"
)

// An origin is a web server in the guest's network that serves one image, and that stops
// in the middle of the image until the test continues it.
type origin struct {
	t         *testing.T
	data      []byte
	url, etag string
	ranges    bool
	requests  chan http.Header
	// holdAt is how many bytes the origin sends, in all answers, before release is closed. held
	// is closed when it has sent them.
	holdAt        int
	held, release chan struct{}
	// breaksOff: the answer with byte number holdAt ends there.
	breaksOff bool

	mu   sync.Mutex
	sent int // bytes, in all answers
	once sync.Once
}

func (g *guest) serve(name string, ranges bool) *origin {
	g.t.Helper()
	data, err := os.ReadFile(filepath.Join(g.f.dir, name))
	if err != nil {
		g.t.Fatal(err)
	}
	l, err := g.Listen(g.t.Context(), "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	o := &origin{
		t: g.t, data: data, url: "http://" + l.Addr().String() + "/" + name, etag: `"an-etag"`, ranges: ranges,
		requests: make(chan http.Header, 4096), held: make(chan struct{}), release: make(chan struct{}),
	}
	server := &http.Server{Handler: o}
	go func() { _ = server.Serve(l) }()
	g.t.Cleanup(func() { _ = server.Close() })
	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.requests <- r.Header.Clone()
	if !o.ranges {
		r.Header.Del("Range")
	}
	body := &heldBody{Reader: bytes.NewReader(o.data), origin: o, ctx: r.Context()}
	w.Header().Set("ETag", o.etag)
	http.ServeContent(w, r, "", time.Time{}, body)
}

// nextRequest waits for the next request.
func (o *origin) nextRequest() http.Header {
	o.t.Helper()
	select {
	case h := <-o.requests:
		return h
	case <-time.After(2 * time.Minute):
		o.t.Fatal("nobody asks the server")
	}
	return nil
}

// bytesSent returns how many bytes of the image the origin has sent.
func (o *origin) bytesSent() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent
}

// heldBody is the answer to one request.
type heldBody struct {
	*bytes.Reader
	origin *origin
	ctx    context.Context
}

func (h *heldBody) Read(p []byte) (int, error) {
	o := h.origin
	if room := o.holdAt - o.bytesSent(); room > 0 {
		p = p[:min(room, len(p))]
	} else {
		isFirst := false
		o.once.Do(func() { isFirst = true; close(o.held) })
		if isFirst && o.breaksOff {
			return 0, errors.New("broken off")
		}
		select {
		case <-o.release:
		case <-h.ctx.Done():
			return 0, io.ErrUnexpectedEOF
		}
	}
	n, err := h.Reader.Read(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent += n
	return n, err
}

// A follower keeps the events of one operation.
type follower struct {
	mu     sync.Mutex
	events []*client.Event
}

func (f *follower) event(e *client.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

func (f *follower) seen() []*client.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.events[:len(f.events):len(f.events)]
}

// complete checks that every event came once and in order, and that there was a
// restart among them.
func (f *follower) complete(t *testing.T) {
	t.Helper()
	restarts := 0
	for i, e := range f.seen() {
		if e.Sequence != uint64(i+1) {
			t.Fatalf("event %d came at place %d", e.Sequence, i+1)
		}
		if e.GetChange().GetWaiting() == "restart" {
			restarts++
		}
	}
	if restarts != 1 {
		t.Errorf("%d restarts among %d events", restarts, len(f.seen()))
	}
}

// same checks that another follower has the same events.
func (f *follower) same(t *testing.T, g *follower) {
	t.Helper()
	if diff := cmp.Diff(f.seen(), g.seen(), protocmp.Transform()); diff != "" {
		t.Errorf("two watchers saw different events: %s", diff)
	}
}
