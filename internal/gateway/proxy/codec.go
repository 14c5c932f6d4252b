package proxy

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// frame is one message, encoded. Whoever has it owns one reference to its buffers, which
// Marshal passes on to gRPC.
type frame struct{ data mem.BufferSlice }

// rawCodec passes messages through without decoding them.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("pass on a message: it is a %T", v)
	}
	return f.data, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("pass on a message: it is a %T", v)
	}
	data.Ref()
	f.data = data
	return nil
}

// Name is that of the codec with which clients and tridentd encode.
func (rawCodec) Name() string { return "proto" }
