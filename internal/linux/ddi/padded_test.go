package ddi

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// A compact inode may lie in the last 32 bytes of a file system.
func TestTheLastInodeOfAFileSystemIsRead(t *testing.T) {
	t.Parallel()
	const size = 4096
	r := padded{io.NewSectionReader(bytes.NewReader(bytes.Repeat([]byte{7}, size)), 0, size)}
	inode := make([]byte, 64)
	n, err := r.ReadAt(inode, size-32)
	if want := append(bytes.Repeat([]byte{7}, 32), make([]byte, 32)...); n != 64 || err != nil || !bytes.Equal(inode, want) {
		t.Errorf("an inode at the end: %d bytes, %v: %x", n, err, inode)
	}
	for name, c := range map[string]struct {
		offset int64
		length int
	}{"behind the end": {size, 64}, "far behind the end": {size * 2, 64}, "more than an inode is missing": {size - 32, 128}} {
		if _, err := r.ReadAt(make([]byte, c.length), c.offset); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
