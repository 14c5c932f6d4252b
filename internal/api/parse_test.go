package api

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

func TestLargeConfigurationsAreParsedOneByOneAndHoldUpNoSmallOnes(t *testing.T) {
	p := newParser()
	large := []byte("# " + strings.Repeat("x", smallConfig))
	release, err := p.large.take(t.Context()) // a large one is being parsed
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := p.parse(gone, large); !errors.Is(err, context.Canceled) {
		t.Errorf("a second large one: %v", err)
	}
	if _, _, err := p.parse(t.Context(), []byte("os: {}")); err != nil {
		t.Errorf("a small one: %v", err)
	}
	release()
	if _, _, err := p.parse(t.Context(), large); err != nil {
		t.Errorf("the next large one: %v", err)
	}
}

func TestFewLongAnswersAreMadeAtATime(t *testing.T) {
	g := newGate(Config{Servicing: &fakeServicing{}, Logger: slog.New(slog.DiscardHandler)})
	for range maxBulkCalls {
		if _, err := g.bulk.take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(peer.NewContext(t.Context(), &peer.Peer{AuthInfo: peerInfo{}}))
	cancel()
	call := func(method string) error {
		_, err := g.unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) { return nil, nil })
		return err
	}
	if err := call(operationsv1.OperationsService_List_FullMethodName); status.Code(err) != codes.Canceled {
		t.Errorf("one more: %v", err)
	}
	if err := call(selfv1.SelfService_GetStatus_FullMethodName); err != nil {
		t.Errorf("a short answer: %v", err)
	}
}
