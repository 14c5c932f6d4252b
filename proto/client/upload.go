package client

import (
	"fmt"
	"io"
	"sync/atomic"
)

// defaultChunk is how much of an upload is sent at a time to a daemon that does
// not say how much it takes.
const defaultChunk = 256 << 10

// chunk is how much of an upload the daemon takes at a time.
func (l *link) chunk() int64 {
	if most := l.server.GetLimits().GetMaxChunkBytes(); most > 0 {
		return min(most, defaultChunk)
	}
	return defaultChunk
}

// upload sends an image while the operation's events come in.
type upload struct {
	send   func([]byte) error
	source Source
	chunk  int64
	stop   func() // ends the stream, and by that the operation

	complete atomic.Bool
	fault    atomic.Pointer[error] // the caller's reader failed
}

// run reports whether everything was sent.
func (u *upload) run() bool {
	buf := make([]byte, u.chunk)
	for sent := int64(0); sent < u.source.Size; {
		n, err := io.ReadFull(u.source.Upload, buf[:min(u.chunk, u.source.Size-sent)])
		if err != nil {
			err = fmt.Errorf("read image: it ended after %d of %d bytes: %w", sent+int64(n), u.source.Size, err)
			u.fault.Store(&err)
			u.stop()
			return false
		}
		if u.send(buf[:n]) != nil {
			return false // the operation says why, or the connection is lost and it fails
		}
		sent += int64(n)
	}
	u.complete.Store(true)
	return true
}
