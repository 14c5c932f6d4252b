package proxy

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/trident-project/trident/internal/gateway/rights"
	_ "github.com/trident-project/trident/proto/trident/handles/v1"
	_ "github.com/trident-project/trident/proto/trident/host/v1"
	_ "github.com/trident-project/trident/proto/trident/setup/v1"
	_ "github.com/trident-project/trident/proto/trident/v1preview"
)

// A stream that was passed on as a unary call would lose its messages.
func TestNoStreamIsPassedOnAsAUnaryCall(t *testing.T) {
	unary := 0
	for _, method := range rights.Methods() {
		if !isUnary(method) {
			continue
		}
		unary++
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(method[1:], "/", ".")))
		if err != nil {
			t.Errorf("%s: %v", method, err)
			continue
		}
		if m := d.(protoreflect.MethodDescriptor); m.IsStreamingClient() || m.IsStreamingServer() {
			t.Errorf("%s is a stream", method)
		}
	}
	if unary != 25 {
		t.Errorf("%d methods of the table of rights are unary: a name is wrong", unary)
	}
	if isUnary(version+"2") || isUnary("/"+version) || isUnary("") {
		t.Error("a method that does not exist is unary")
	}
}

func TestACallWithoutARequestIsRefused(t *testing.T) {
	f := newFixture(t, "")
	conn := f.dial(f.tls(f.ours.client(t, "trident://reader")))
	s, err := conn.NewStream(with(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, version)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&frame{}); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "no request") {
		t.Errorf("got %v", err)
	}
}

// dropping closes the connections for which closes says true.
type dropping struct {
	net.Listener
	closes chan bool
}

func (d dropping) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case isClosed := <-d.closes:
			if isClosed {
				_ = conn.Close()
				continue
			}
		default:
		}
		return conn, nil
	}
}

// dropConnections has the backend take and close the connections for which closes says true.
func (f *fixture) dropConnections(closes chan bool) {
	f.t.Helper()
	if err := call(with(f.t), f.dial(f.tls(f.ours.client(f.t, "trident://reader"))), version); err != nil { // the backend serves now
		f.t.Fatal(err)
	}
	f.backend.grpc.Stop()
	_ = os.Remove(f.path("s"))
	l, err := net.Listen("unix", f.path("s"))
	if err != nil {
		f.t.Fatal(err)
	}
	g := grpc.NewServer(grpc.UnknownServiceHandler(f.backend.handle), grpc.ForceServerCodecV2(rawCodec{}))
	f.backend.grpc = g
	go func() { _ = g.Serve(dropping{l, closes}) }()
}

// An idle tridentd that ends may have taken the connection already, or take it and close it.
func TestACallThatMeetsATridentdThatEndsIsRepeatedOnce(t *testing.T) {
	for name, method := range map[string]string{"unary": version, "stream": install} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "")
			conn := f.dial(f.tls(f.ours.client(t, "trident://admin")))
			closes := make(chan bool, 10)
			f.dropConnections(closes)
			closes <- true // the next connection
			closes <- false
			var header metadata.MD
			begin := time.Now()
			if err := call(with(t), conn, method, grpc.Header(&header)); err != nil || len(header.Get("seen-by")) != 1 {
				t.Errorf("after a closed connection: %v, %v", header, err)
			}
			if took := time.Since(begin); took > f.server.againTime {
				t.Errorf("the call took %s", took)
			}
			if n := len(closes); n != 0 {
				t.Errorf("%d connections were not made", n)
			}
		})
	}
	t.Run("not twice", func(t *testing.T) {
		f := newFixture(t, "", func(s *Server) { s.againTime = 50 * time.Millisecond })
		conn := f.dial(f.tls(f.ours.client(t, "trident://admin")))
		closes := make(chan bool, 100)
		f.dropConnections(closes)
		for range 100 {
			closes <- true
		}
		err := call(with(t), conn, version)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "reach tridentd") {
			t.Errorf("got %v", err)
		}
		if n := 100 - len(closes); n < 2 {
			t.Errorf("the gateway connected %d times", n)
		}
	})
}
