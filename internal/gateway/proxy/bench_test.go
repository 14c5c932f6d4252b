package proxy

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
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

// BenchmarkLoadOverOneWebSocket calls system_load.current over TLS, with the audit log, 16
// calls under way.
func BenchmarkLoadOverOneWebSocket(b *testing.B) {
	f := newFixture(b, "limits: {perIdentity: {callsPerSecond: 1000000}}\n")
	c, err := f.socket(http.Header{"Authorization": {"Bearer " + f.addToken("ci", time.Hour, "read")}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, turns := b.Context(), make(chan struct{}, 16)
	b.ResetTimer()
	go func() {
		for range b.N {
			turns <- struct{}{}
			_ = c.Write(ctx, websocket.MessageText, []byte(`{"jsonrpc":"2.0","method":"system_load.current","id":1}`))
		}
	}()
	for range b.N {
		_, data, err := c.Read(ctx)
		if err != nil || !bytes.Contains(data, []byte("load1")) {
			b.Fatalf("%s, %v", data, err)
		}
		<-turns
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
