package proxy

import (
	"testing"

	"google.golang.org/grpc/mem"
)

func TestTheCodecTakesFramesOnly(t *testing.T) {
	var c rawCodec
	if _, err := c.Marshal("text"); err == nil {
		t.Error("a text is a message")
	}
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer("x")}, new(string)); err == nil {
		t.Error("a message is a text")
	}
	passed := bytesOf(1)
	if _, err := c.Marshal(passed); err != nil {
		t.Error(err)
	}
	if _, err := c.Marshal(passed); err == nil {
		t.Error("the buffers of a message are passed on twice")
	}
	var f frame
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer("x")}, &f); err != nil || f.data.Len() != 1 {
		t.Errorf("%d bytes, %v", f.data.Len(), err)
	}
}
