package client_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	"github.com/trident-project/trident/proto/wire"
)

// sent notes the headers and the first message of the streams of a method.
type sent struct {
	header metadata.MD
	first  any
}

func (n *sent) of(method string) client.Option {
	return client.WithGRPC(grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, called string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := open(ctx, d, cc, called, opts...)
		if err != nil || !strings.HasSuffix(called, "/"+method) {
			return s, err
		}
		n.header, _ = metadata.FromOutgoingContext(ctx)
		return &sentStream{s, n}, nil
	}))
}

type sentStream struct {
	grpc.ClientStream
	note *sent
}

func (s *sentStream) SendMsg(m any) error {
	if s.note.first == nil {
		s.note.first = m
	}
	return s.ClientStream.SendMsg(m)
}

func TestHowLongAnImageMayTakeCrossesTheWire(t *testing.T) {
	end := []*operationsv1.Event{clienttest.Step(done, "settle", nil)}
	var disk, stage sent
	c := dial(t, clienttest.New(clienttest.Config{Script: end}), disk.of("StreamDisk"), stage.of("Stage"))
	how := client.How{FetchTimeout: 1500 * time.Millisecond}
	if _, err := c.Host().StreamDisk(t.Context(), "http://x/y.cosi", "", how, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"2"}, disk.header.Get("trident-image-timeout")); diff != "" {
		t.Errorf("whole seconds, rounded up (-want +got):\n%s", diff)
	}
	source := client.Source{URL: "http://x/y.raw", FetchTimeout: time.Minute}
	if _, err := c.Stage(t.Context(), source, false, nil); err != nil {
		t.Fatal(err)
	}
	if got := stage.first.(*selfv1.StageRequest).GetStart().GetSource().GetFetchTimeout().AsDuration(); got != time.Minute {
		t.Errorf("the source has the timeout %s", got)
	}
	old := dial(t, clienttest.New(clienttest.Config{Capabilities: []string{wire.Operations}, Script: end}))
	if _, err := old.Stage(t.Context(), source, false, nil); client.Kind(err) != client.KindPrecondition || !strings.Contains(err.Error(), wire.FetchTimeout) {
		t.Errorf("stage with a daemon that waits forever: %v", err)
	}
	if _, err := old.Host().StreamDisk(t.Context(), "http://x/y.cosi", "", how, nil); client.Kind(err) != client.KindPrecondition || !strings.Contains(err.Error(), wire.FetchTimeout) {
		t.Errorf("stream a disk with a daemon that waits forever: %v", err)
	}
}

func TestAStuckOperationIsNotWorthAnotherAttempt(t *testing.T) {
	failure := &operationsv1.Failure{Reason: "TIMEOUT", Message: "undo: no answer"}
	c := dial(t, clienttest.New(clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(operationsv1.Phase_PHASE_STUCK, "activate", failure)}}))
	_, err := c.Rollback(t.Context(), nil, nil)
	failed, ok := errors.AsType[*client.OperationError](err)
	if !ok || !failed.Stuck() || client.Retriable(err) || client.Kind(err) != client.KindTimeout {
		t.Errorf("error %v of kind %s, stuck %t, retriable %t", err, client.Kind(err), ok && failed.Stuck(), client.Retriable(err))
	}
}

func TestTheErrorOfADetachedCallNamesTheOperation(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	c := dial(t, clienttest.New(clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(0, "fetch", nil)}}))
	_, err := c.Rollback(ctx, nil, func(*client.Event) { cancel(errors.New("enough")) })
	if err == nil || err.Error() != "watch operation op-1: enough" {
		t.Errorf("error %v", err)
	}
}

func TestStreamsOfServicesWithoutAVerbWork(t *testing.T) {
	var log bytes.Buffer
	c := dial(t, clienttest.New(clienttest.Config{}), client.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch, err := healthpb.NewHealthClient(c.Conn()).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", got, err)
	}
	if !strings.Contains(log.String(), "connect to tridentd") {
		t.Errorf("the log has %q", log.String())
	}
}

func TestAnImageThatTakesTooLongIsNotOpened(t *testing.T) {
	stalls := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		if method == handlesv1.HandleService_OpenImage_FullMethodName {
			<-ctx.Done()
		}
		return open(ctx, desc, cc, method, opts...)
	}
	c := dial(t, clienttest.New(clienttest.Config{}), client.WithGRPC(grpc.WithChainStreamInterceptor(stalls)))
	source := client.Source{URL: "http://x/y.raw", FetchTimeout: 10 * time.Millisecond}
	_, err := c.OpenImage(t.Context(), handlesv1.ImageKind_IMAGE_KIND_SYSEXT, source)
	if client.Kind(err) != client.KindTimeout || !strings.Contains(err.Error(), "10ms") {
		t.Errorf("%s: %v", client.Kind(err), err)
	}
}
