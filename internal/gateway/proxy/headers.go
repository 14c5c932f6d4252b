package proxy

import (
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// headerDelay is how long the headers of an answer wait for its first message, so that both
// leave together. A stream without a message sends its headers alone.
const headerDelay = time.Millisecond

// headers are the headers of an answer. They are passed on once.
type headers struct {
	to grpc.ServerStream

	mu     sync.Mutex
	header metadata.MD
	isSent bool
	timer  *time.Timer
}

func (h *headers) expect(header metadata.MD) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.header = header
	h.timer = time.AfterFunc(headerDelay, func() { h.send(true) })
}

// send sends the headers now, or together with what follows. After the first call it does
// nothing, so the timer never uses a stream that has ended.
func (h *headers) send(now bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isSent {
		return
	}
	h.isSent = true
	if h.timer != nil {
		h.timer.Stop()
	}
	if len(h.header) == 0 {
		return
	}
	if now {
		_ = h.to.SendHeader(h.header) // the next message has the error
		return
	}
	_ = h.to.SetHeader(h.header)
}
