package proxy

import (
	"testing"

	"google.golang.org/grpc"
)

// BenchmarkCall measures a unary call through the gateway to a backend in this process.
func BenchmarkCall(b *testing.B) {
	f := newFixture(b, "limits: {perIdentity: {callsPerSecond: 1000000}}\n")
	conn := f.dial(f.tls(f.ours.client(b, "trident://reader")))
	ctx := with(b)
	for b.Loop() {
		if err := call(ctx, conn, version); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEcho measures a stream of chunks that the backend sends back.
func BenchmarkEcho(b *testing.B) {
	f := newFixture(b, "")
	conn := f.dial(f.tls(f.ours.client(b, "trident://admin")))
	s, err := conn.NewStream(with(b), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, install)
	if err != nil {
		b.Fatal(err)
	}
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if err := s.SendMsg(bytesOf(chunk...)); err != nil {
			b.Fatal(err)
		}
		if err := s.RecvMsg(&frame{}); err != nil {
			b.Fatal(err)
		}
	}
}
