package proxy

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/mem"
)

// frame is one message, encoded. Whoever has it owns one reference to its buffers, which
// Marshal passes on to gRPC.
type frame struct {
	data     mem.BufferSlice
	isPassed bool // Marshal has passed data on
}

// free frees the buffers of a message that has not been passed on.
func (f *frame) free() {
	if !f.isPassed {
		f.data.Free()
	}
}

// rawCodec passes messages through without decoding them.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("pass on a message: it is a %T", v)
	}
	if f.isPassed {
		return nil, errors.New("pass on a message: it has been passed on before")
	}
	f.isPassed = true
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
