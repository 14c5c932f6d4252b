package api

import "encoding/binary"

// Parts of HTTP/2 (RFC 9113, sections 4.1 and 6).
const (
	frameHeaderSize = 9
	clientPreface   = len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

	frameData    = 0x0
	frameHeaders = 0x1
	frameReset   = 0x3
	frameGoAway  = 0x7

	flagEndStream = 0x1

	codeNone     = 0x0 // NO_ERROR
	codeTooMuch  = 0xb // ENHANCE_YOUR_CALM
	lastStreamID = 1<<31 - 1
)

// frameHeader is the decoded header of a frame.
type frameHeader struct {
	length      int64 // of the payload, in bytes
	kind, flags byte
	stream      uint32
}

// frames follows one direction of an HTTP/2 connection.
type frames struct {
	skip int64 // bytes until the next frame header
	head []byte
}

// feed reads the next bytes of the connection and calls begun for each frame
// whose header they complete.
func (f *frames) feed(p []byte, begun func(frameHeader)) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(f.skip, int64(len(p)))
			f.skip, p = f.skip-n, p[n:]
			continue
		}
		n := min(frameHeaderSize-len(f.head), len(p))
		f.head, p = append(f.head, p[:n]...), p[n:]
		if len(f.head) < frameHeaderSize {
			return
		}
		h := frameHeader{
			length: int64(f.head[0])<<16 | int64(f.head[1])<<8 | int64(f.head[2]),
			kind:   f.head[3], flags: f.head[4], stream: binary.BigEndian.Uint32(f.head[5:]) & lastStreamID,
		}
		f.skip, f.head = h.length, f.head[:0]
		begun(h)
	}
}

// isAtFrameEnd reports whether the connection is at the end of a frame.
func (f *frames) isAtFrameEnd() bool { return f.skip == 0 && len(f.head) == 0 }

// goAway returns a GOAWAY frame: it ends the connection, and the server has not begun any
// stream after last.
func goAway(last, code uint32, why string) []byte {
	n := 8 + len(why)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), frameGoAway, 0, 0, 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, why...)
}
