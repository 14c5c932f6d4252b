package connect

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// halfConn is a connection whose sending direction can be ended alone.
type halfConn interface {
	net.Conn
	CloseWrite() error
}

// both copies in both directions until both have ended, and returns which end was first.
// The end of one direction is passed on; the other may go on until it is silent for
// lingerTime.
func both(listener, daemon halfConn, linger time.Duration) end {
	p := pair{linger: linger}
	var copies sync.WaitGroup
	copies.Go(func() { p.copy(daemon, listener, listenerEnd) })
	copies.Go(func() { p.copy(listener, daemon, daemonEnd) })
	copies.Wait()
	return p.first
}

// pair is the state that both directions share.
type pair struct {
	linger  time.Duration // see lingerTime
	closing atomic.Bool
	once    sync.Once
	first   end
}

func (p *pair) copy(to, from halfConn, by end) {
	buffer := make([]byte, bufferSize)
	for {
		p.limit(from.SetReadDeadline)
		n, rerr := from.Read(buffer)
		if n > 0 {
			p.limit(to.SetWriteDeadline)
			if _, err := to.Write(buffer[:n]); err != nil {
				p.end(to, from, opposite(by))
				return
			}
		}
		if rerr != nil {
			p.end(to, from, by)
			return
		}
	}
}

func opposite(by end) end {
	if by == listenerEnd {
		return daemonEnd
	}
	return listenerEnd
}

// limit bounds the next Read or Write of a direction if the other one has ended.
func (p *pair) limit(set func(time.Time) error) {
	if p.closing.Load() {
		_ = set(time.Now().Add(p.linger))
	}
}

// end passes the end of a direction on, and bounds what the other one waits for.
func (p *pair) end(to, from halfConn, by end) {
	p.once.Do(func() { p.first = by })
	p.closing.Store(true)
	p.limit(to.SetReadDeadline)
	p.limit(from.SetWriteDeadline)
	p.limit(to.SetWriteDeadline)
	_ = to.CloseWrite()
}
