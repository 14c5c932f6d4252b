package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

func TestWatchSendsEachEventOnceFromWhereItIsAsked(t *testing.T) {
	f := newFixture(t)
	id := f.work()
	client := operationsv1.NewOperationsServiceClient(f.conn)
	stream, err := client.Watch(t.Context(), &operationsv1.WatchRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	header, err := stream.Header()
	if err != nil || cmp.Diff([]string{id}, header.Get(wire.HeaderOperation)) != "" {
		t.Errorf("header %v, %v", header, err)
	}
	f.goAhead <- nil
	f.goAhead <- nil
	all := drain(t, stream.Recv)
	for i, e := range all {
		if e.GetSequence() != uint64(i+1) || e.GetOperationId() != id {
			t.Errorf("event %d is number %d of %q", i+1, e.GetSequence(), e.GetOperationId())
		}
	}
	if last := all[len(all)-1]; last.GetPhase() != operationsv1.Phase_PHASE_DONE {
		t.Errorf("the last event is %v", last)
	}
	rest, err := client.Watch(t.Context(), &operationsv1.WatchRequest{Id: id, AfterSequence: 3})
	if err != nil {
		t.Fatal(err)
	}
	if got := drain(t, rest.Recv); len(got) != len(all)-3 || got[0].GetSequence() != 4 {
		t.Errorf("after event 3 come %v", got)
	}
}

// drain reads a stream that must end well.
func drain(t *testing.T, recv func() (*operationsv1.WatchResponse, error)) []*operationsv1.Event {
	t.Helper()
	var all []*operationsv1.Event
	for {
		resp, err := recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, resp.GetEvent())
	}
}

func TestAnOperationThatFailsEndsItsStreamWell(t *testing.T) {
	f := newFixture(t)
	id := f.work()
	stream, err := operationsv1.NewOperationsServiceClient(f.conn).Watch(t.Context(), &operationsv1.WatchRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	f.goAhead <- errors.New("no luck")
	all := drain(t, stream.Recv)
	last := all[len(all)-1]
	want := &operationsv1.Failure{Reason: "INTERNAL", Message: "one: no luck", Code: int32(codes.Internal)}
	if got := last.GetChange().GetFailure(); last.GetPhase() != operationsv1.Phase_PHASE_UNDONE || !equal(want, got) {
		t.Errorf("phase %v, failure %v, want %v", last.GetPhase(), got, want)
	}
}

func TestAWatchOfADaemonThatStopsEndsWithReattach(t *testing.T) {
	f := newFixture(t)
	id := f.work()
	stream, err := operationsv1.NewOperationsServiceClient(f.conn).Watch(t.Context(), &operationsv1.WatchRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	for err == nil && resp.GetEvent().GetLog() == nil {
		resp, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.runner.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	_, _, meta := grpckind.FromError(err)
	want := map[string]string{grpckind.MetaOperation: id, grpckind.MetaSequence: "2"}
	if diff := cmp.Diff(want, meta); diff != "" || !grpckind.IsReattach(err) {
		t.Errorf("the stream ended with %v (-want +got):\n%s", err, diff)
	}
}

func TestAnOperationContinuesWithoutItsClient(t *testing.T) {
	f := newFixture(t)
	id := f.work()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := operationsv1.NewOperationsServiceClient(f.conn).Watch(ctx, &operationsv1.WatchRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	f.goAhead <- nil
	f.goAhead <- nil
	again, err := operationsv1.NewOperationsServiceClient(f.conn).Watch(t.Context(), &operationsv1.WatchRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	if all := drain(t, again.Recv); all[len(all)-1].GetPhase() != operationsv1.Phase_PHASE_DONE {
		t.Errorf("the operation ended %v", all[len(all)-1])
	}
}

func TestCancelUndoesAnOperation(t *testing.T) {
	f := newFixture(t)
	id := f.work()
	client := operationsv1.NewOperationsServiceClient(f.conn)
	if _, err := client.Cancel(t.Context(), &operationsv1.CancelRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	stream, err := client.Watch(t.Context(), &operationsv1.WatchRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	all := drain(t, stream.Recv)
	if last := all[len(all)-1]; last.GetPhase() != operationsv1.Phase_PHASE_UNDONE || last.GetChange().GetFailure().GetReason() != "CANCELLED" {
		t.Errorf("the operation ended %v", last)
	}
	list, err := client.List(t.Context(), &operationsv1.ListRequest{})
	if err != nil || len(list.GetOperations()) != 1 || list.GetOperations()[0].GetId() != id {
		t.Errorf("List = %v, %v", list, err)
	}
	if open, err := client.List(t.Context(), &operationsv1.ListRequest{Unsettled: true}); err != nil || len(open.GetOperations()) != 0 {
		t.Errorf("unsettled: %v, %v", open, err)
	}
}

// stageUpload begins to stage an upload of size bytes and sends the chunks.
func stageUpload(t *testing.T, ctx context.Context, f *fixture, size int64, chunks ...[]byte) (grpc.BidiStreamingClient[selfv1.StageRequest, selfv1.StageResponse], string) {
	t.Helper()
	stream, err := selfv1.NewSelfServiceClient(f.conn).Stage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&selfv1.StageRequest{Part: &selfv1.StageRequest_Start_{Start: &selfv1.StageRequest_Start{
		Source: &selfv1.Source{From: &selfv1.Source_Upload{Upload: &selfv1.Upload{Size: size}}},
	}}})
	for _, c := range chunks {
		err = errors.Join(err, stream.Send(&selfv1.StageRequest{Part: &selfv1.StageRequest_Chunk{Chunk: c}}))
	}
	header, herr := stream.Header()
	if err := errors.Join(err, herr); err != nil || len(header.Get(wire.HeaderOperation)) != 1 {
		t.Fatalf("stage an upload: %v, header %v", err, header)
	}
	return stream, header.Get(wire.HeaderOperation)[0]
}

// failureOf waits for an operation to end and returns why it turned back.
func failureOf(t *testing.T, f *fixture, id string) *operation.Failure {
	t.Helper()
	for _, err := range f.runner.Watch(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	op, err := f.runner.Get(t.Context(), id)
	if err != nil || op.Phase != operation.Undone {
		t.Fatalf("the operation ended %s, %v", op.Phase, err)
	}
	return op.Failure
}

func TestAnUploadOfAnInvalidImageIsRefusedAndUndone(t *testing.T) {
	f := newFixture(t)
	stream, id := stageUpload(t, t.Context(), f, 3<<20, make([]byte, 1<<20), make([]byte, 1<<20), make([]byte, 1<<20))
	var last *operationsv1.Event
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = resp.GetEvent()
	}
	if last.GetPhase() != operationsv1.Phase_PHASE_UNDONE || last.GetChange().GetFailure().GetReason() != "INVALID" {
		t.Errorf("operation %s ended with %v", id, last)
	}
}

func TestAnUploadIsUndoneWhenItsCallerDisconnects(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	stream, id := stageUpload(t, ctx, f, 3<<20, make([]byte, 1<<20))
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if got := failureOf(t, f, id); got.Kind != errkind.Unavailable || !strings.Contains(got.Message, "bytes: the caller went away") {
		t.Errorf("failure %+v", got)
	}
}

func TestATruncatedUploadIsUndone(t *testing.T) {
	f := newFixture(t)
	stream, id := stageUpload(t, t.Context(), f, 3<<20, make([]byte, 1<<20))
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if got := failureOf(t, f, id); got.Message != "fetch: fetch the upload: it stopped at 1048576 of 3145728 bytes: the caller sent no more" {
		t.Errorf("failure %+v", got)
	}
}

func TestAClientThatDoesNotReadDoesNotDelayShutdown(t *testing.T) {
	f := newFixture(t)
	talk := operation.Register(f.runner, operation.Kind[struct{}]{Name: "talk", Steps: []operation.Step[struct{}]{{
		Name: "talk", Do: func(_ context.Context, r *operation.Run[struct{}]) error {
			for range 500 { // far more than a stream's window takes
				r.Logf(slog.LevelInfo, "%s", strings.Repeat("blah ", 1000))
			}
			return nil
		},
	}}})
	op, err := talk(t.Context(), "talk", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := operationsv1.NewOperationsServiceClient(f.conn).Watch(t.Context(), &operationsv1.WatchRequest{Id: op.ID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	for _, err := range f.runner.Watch(t.Context(), op.ID, 0) { // the operation ends all the same
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	f.server.Stop(ctx, f.listener)
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("the end took %s", took)
	}
	if _, err := tridentv1.NewVersionServiceClient(f.conn).Version(t.Context(), &tridentv1.VersionRequest{}); err == nil {
		t.Error("a stopped server answers")
	}
}
