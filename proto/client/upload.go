package client

import (
	"fmt"
	"io"
	"sync/atomic"
)

// defaultChunk is the largest chunk that the client sends, in bytes.
const defaultChunk = 256 << 10

// chunk returns the size of chunks for the daemon, in bytes.
func (l *link) chunk() int64 {
	if most := l.server.GetLimits().GetMaxChunkBytes(); most > 0 {
		return min(most, defaultChunk)
	}
	return defaultChunk
}

// upload sends an image while the client receives the operation's events.
type upload struct {
	send   func([]byte) error
	source Source
	chunk  int64
	stop   func() // ends the stream, so that the operation fails

	complete atomic.Bool
	fault    atomic.Pointer[error] // the caller's reader failed
}

// run sends the image, and reports whether it sent all of it.
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
