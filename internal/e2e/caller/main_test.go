package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// server answers every second call, and the first one late.
type server struct {
	tridentv1.UnimplementedVersionServiceServer
	calls  atomic.Int32
	enough chan struct{} // closed at the twentieth
}

func (s *server) Version(context.Context, *tridentv1.VersionRequest) (*tridentv1.VersionResponse, error) {
	n := s.calls.Add(1)
	switch {
	case n == 1:
		<-s.enough
	case n == 20:
		close(s.enough)
	}
	if n%2 == 0 {
		return nil, status.Error(codes.Internal, "no")
	}
	return &tridentv1.VersionResponse{Version: "1.2.3"}, nil
}

func TestAStallAndFailuresAreCountedAndNobodyWaitsForThem(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{enough: make(chan struct{})}
	g := grpc.NewServer()
	tridentv1.RegisterVersionServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	defer g.Stop()
	until, end := io.Pipe()
	go func() {
		<-s.enough
		_ = end.Close()
	}()
	var out bytes.Buffer
	if err := run(socket, 100, until, &out); err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Calls < 20 || got.Calls != int(s.calls.Load()) || got.Failed != got.Calls/2 || len(got.Errors) != errorsKept || got.Versions["1.2.3"] != got.Calls-got.Failed {
		t.Errorf("%d calls: %+v", s.calls.Load(), got)
	}
	// The first call was answered when the twentieth had come, at a hundred a second.
	if stall := 150 * time.Millisecond; got.Longest < float64(stall.Milliseconds()) || got.Seconds < stall.Seconds() {
		t.Errorf("a stall of %v ms in %v s", got.Longest, got.Seconds)
	}
}
