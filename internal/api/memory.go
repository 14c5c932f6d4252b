package api

import (
	"fmt"
	"sync"
)

const (
	// maxMemory bounds the bytes that the daemon holds for all connections: requests
	// without an answer, and answers that the caller has not read.
	maxMemory = 16 << 20
	// window is how many bytes a caller can send ahead of what a method reads: the
	// minimum of gRPC.
	window = 64 << 10
)

// memory counts the bytes that the daemon holds for its connections. Above the limit it
// ends the connection with the most. This does not affect callers that send small
// requests and read their answers.
type memory struct {
	limit int64

	mu       sync.Mutex
	total    int64
	peak     int64 // the highest total so far
	accounts map[*account]struct{}
}

func newMemory(limit int64) *memory {
	return &memory{limit: limit, accounts: map[*account]struct{}{}}
}

// account counts the bytes held for one connection, from the frames in both directions.
type account struct {
	memory *memory
	// end ends the connection for a reason.
	end func(why string)

	// memory.mu guards the fields below.
	in, out frames
	last    uint32           // the newest stream
	streams map[uint32]int64 // bytes received on each open stream
	answers int64            // bytes that wait to be sent
	held    int64
	closed  bool
}

func (m *memory) open(end func(why string)) *account {
	a := &account{memory: m, end: end, in: frames{skip: int64(clientPreface)}, streams: map[uint32]int64{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accounts[a] = struct{}{}
	return a
}

// close removes the connection from the counts.
func (a *account) close() {
	a.memory.mu.Lock()
	defer a.memory.mu.Unlock()
	if a.closed {
		return
	}
	a.hold(-a.held)
	a.closed = true
	delete(a.memory.accounts, a)
}

// received counts bytes from the caller. For each stream it counts at most one message
// and a window, because the method has read the earlier bytes.
func (a *account) received(p []byte) {
	a.count(func() {
		a.in.feed(p, func(h frameHeader) {
			was, open := a.streams[h.stream]
			switch {
			case h.kind == frameHeaders && h.stream > a.last:
				a.last, a.streams[h.stream] = h.stream, 0
			case h.kind == frameData && open:
				now := min(was+h.length, maxMessage+window)
				a.streams[h.stream] = now
				a.hold(now - was)
			case h.kind == frameReset:
				a.endStream(h.stream)
			}
		})
	})
}

// sent counts bytes to the caller.
func (a *account) sent(p []byte) {
	a.count(func() {
		a.out.feed(p, func(h frameHeader) {
			if h.kind == frameData {
				a.answer(-h.length)
			}
			if h.kind == frameReset || h.kind == frameHeaders && h.flags&flagEndStream != 0 {
				a.endStream(h.stream)
			}
		})
	})
}

// willSend counts n bytes of an answer that waits to be sent.
func (a *account) willSend(n int64) { a.count(func() { a.answer(n) }) }

// answer adds n to the bytes that wait to be sent. The caller holds memory.mu.
func (a *account) answer(n int64) {
	n = max(n, -a.answers)
	a.answers += n
	a.hold(n)
}

// endStream forgets a stream. When no stream is open no answer waits, including those of
// calls that the caller has cancelled. The caller holds memory.mu.
func (a *account) endStream(stream uint32) {
	a.hold(-a.streams[stream])
	delete(a.streams, stream)
	if len(a.streams) == 0 {
		a.answer(-a.answers)
	}
}

// hold adds n to the bytes that are held. The caller holds memory.mu.
func (a *account) hold(n int64) {
	a.held += n
	a.memory.total += n
	a.memory.peak = max(a.memory.peak, a.memory.total)
}

// count calls change, and ends the connections with the most bytes until the total is
// within the limit.
func (a *account) count(change func()) {
	m := a.memory
	m.mu.Lock()
	if !a.closed {
		change()
	}
	over := map[*account]string{}
	for m.total > m.limit {
		var worst *account
		for b := range m.accounts {
			if worst == nil || b.held > worst.held {
				worst = b
			}
		}
		over[worst] = fmt.Sprintf("tridentd ends this connection: it holds %d bytes of requests and answers that nobody has read, and all connections may hold %d", worst.held, m.limit)
		worst.hold(-worst.held)
		worst.closed = true
		delete(m.accounts, worst)
	}
	m.mu.Unlock()
	for b, why := range over {
		b.end(why)
	}
}

// lastStream returns the newest stream of the caller. ok reports whether a frame can be
// sent now, between two others.
func (a *account) lastStream() (last uint32, ok bool) {
	a.memory.mu.Lock()
	defer a.memory.mu.Unlock()
	return a.last, a.out.isAtFrameEnd()
}
