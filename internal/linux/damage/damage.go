// Package damage changes a few bytes of an image, for fuzz tests.
//
// A fuzzer that gets whole images as input spends its time on making them smaller. A fuzzer
// that gets a short list of edits only edits.
package damage

import "bytes"

// Most is the number of bytes of edits that Apply uses; it ignores the rest.
const Most = 64

// Apply returns base with edits made to it. An edit is where (3 bytes), how many
// bytes, and the bytes. What is beyond Most bytes, or beyond the end of base, is
// ignored.
func Apply(base, edits []byte) []byte {
	out := bytes.Clone(base)
	edits = edits[:min(len(edits), Most)]
	for len(edits) > 4 && len(out) > 0 {
		at := (int(edits[0])<<16 | int(edits[1])<<8 | int(edits[2])) % len(out)
		n := min(1+int(edits[3])%8, len(edits)-4)
		copy(out[at:], edits[4:4+n])
		edits = edits[4+n:]
	}
	return out
}

// At is an edit that writes data, of at most 8 bytes, at an offset.
func At(offset int, data ...byte) []byte {
	return append([]byte{byte(offset >> 16), byte(offset >> 8), byte(offset), byte(len(data) - 1)}, data...)
}
