package api

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

func named(ctx context.Context, request string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, wire.HeaderRequest, request)
}

// updateNamed is an update by a request with a name, to its end.
func updateNamed(t *testing.T, f *fixture, request string) servicingCall {
	t.Helper()
	call := read1(tridentv1.NewUpdateServiceClient(f.conn).Update(named(t.Context(), request), updateOf("{}")))
	call.completed(t)
	return call
}

func TestARepeatedRequestStreamsItsFirstOperation(t *testing.T) {
	f := newFixture(t)
	f.host.step = talks
	first, again, other := updateNamed(t, f, "a"), updateNamed(t, f, "a"), updateNamed(t, f, "b")
	if diff := cmp.Diff(first.all, again.all, protocmp.Transform()); diff != "" {
		t.Errorf("the second time it says something else (-first +again):\n%s", diff)
	}
	ids := []string{first.header.Get(wire.HeaderOperation)[0], again.header.Get(wire.HeaderOperation)[0], other.header.Get(wire.HeaderOperation)[0]}
	if ids[0] != ids[1] || ids[0] == ids[2] {
		t.Errorf("operations %v", ids)
	}
	if len(f.host.asked) != 2 {
		t.Errorf("asked %d times", len(f.host.asked))
	}
	stage := read1(tridentv1.NewUpdateServiceClient(f.conn).UpdateStage(named(t.Context(), "a"), &tridentv1.StageUpdateRequest{Config: configOf("{}")}))
	if stage.completed(t); stage.header.Get(wire.HeaderOperation)[0] == ids[0] {
		t.Error("another method found the same request")
	}
}

func TestARequestIsFoundWhileItsOperationRuns(t *testing.T) {
	f := newFixture(t)
	begun, end := make(chan struct{}), make(chan struct{})
	f.host.step = func(context.Context, *operation.Run[struct{}]) error {
		close(begun)
		<-end
		return nil
	}
	first := make(chan servicingCall)
	update := func() {
		first <- read1(tridentv1.NewUpdateServiceClient(f.conn).Update(named(context.Background(), "a"), updateOf("{}")))
	}
	go update()
	<-begun
	stream, err := tridentv1.NewUpdateServiceClient(f.conn).Update(named(t.Context(), "a"), updateOf("{}"))
	if err != nil {
		t.Fatal(err)
	}
	header, err := stream.Header()
	close(end)
	if got := (<-first).header; err != nil || cmp.Diff(got.Get(wire.HeaderOperation), header.Get(wire.HeaderOperation)) != "" {
		t.Errorf("headers %v and %v, %v", got, header, err)
	}
}

// A repeated call can meet the first one on its way: it then finds the host busy
// with its own operation.
func TestARepeatedRequestIsNotBusyBecauseOfItsOwnOperation(t *testing.T) {
	f := newFixture(t)
	f.host.step = talks
	stream := &nullStream{ctx: metadata.NewIncomingContext(t.Context(), metadata.Pairs(wire.HeaderRequest, "a"))}
	var want string
	got, err := once(stream, f.runner, func(ctx context.Context) (string, error) {
		want, _ = f.host.begin(ctx, "the first call")
		return "", errkind.Errorf(errkind.Busy, "another operation is running")
	})
	if err != nil || got != want || want == "" {
		t.Errorf("operation %q, %v; want %q", got, err, want)
	}
}

func TestARepeatedSelfServicingRequestBeginsOneOperation(t *testing.T) {
	f := newFixture(t)
	client := selfv1.NewSelfServiceClient(f.conn)
	begin := func() string {
		stream, err := client.Stage(named(t.Context(), "a"))
		if err != nil {
			t.Fatal(err)
		}
		start := &selfv1.StageRequest_Start{Source: &selfv1.Source{From: &selfv1.Source_Path{Path: "/none.raw"}}}
		if err := stream.Send(&selfv1.StageRequest{Part: &selfv1.StageRequest_Start_{Start: start}}); err != nil {
			t.Fatal(err)
		}
		header, err := stream.Header()
		if err != nil || len(header.Get(wire.HeaderOperation)) != 1 {
			t.Fatalf("header %v, %v", header, err)
		}
		return header.Get(wire.HeaderOperation)[0]
	}
	if first, again := begin(), begin(); first != again {
		t.Errorf("operations %s and %s", first, again)
	}
}

func TestARequestHasOneShortName(t *testing.T) {
	f := newFixture(t)
	for name, ctx := range map[string]context.Context{
		"empty": named(t.Context(), ""), "long": named(t.Context(), strings.Repeat("x", wire.MaxRequest+1)), "twice": named(named(t.Context(), "a"), "b"),
	} {
		call := read1(tridentv1.NewUpdateServiceClient(f.conn).Update(ctx, updateOf("{}")))
		if status.Code(call.err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, call.err)
		}
	}
}

func TestARepeatedRequestStreamsEventsAfterAReboot(t *testing.T) {
	f := newFixture(t)
	f.host.step = func(_ context.Context, r *operation.Run[struct{}]) error {
		r.Logf(slog.LevelInfo, "going")
		return operation.ErrReboot
	}
	first := updateNamed(t, f, "a")
	if got := first.completed(t).GetRebootStatus(); got != tridentv1.RebootStatus_REBOOT_STARTED {
		t.Errorf("%s", got)
	}
	f.runner.Life.Boot = "the next boot"
	f.resume(t)
	for _, err := range f.runner.Watch(t.Context(), first.header.Get(wire.HeaderOperation)[0], 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	again := updateNamed(t, f, "a")
	if got := again.completed(t).GetRebootStatus(); got != tridentv1.RebootStatus_REBOOT_NOT_REQUIRED || len(again.all) <= len(first.all) {
		t.Errorf("%s after %v", got, again.shape())
	}
}

// nullStream is a call of which only the context counts.
type nullStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *nullStream) Context() context.Context { return s.ctx }

func TestARepeatedRequestBeginsNoSecondOperation(t *testing.T) {
	f := newFixture(t)
	f.host.step = talks
	again := func(name string) servicingCall {
		ctx := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderRequest, name, wire.HeaderRepeated, "true")
		return read1(tridentv1.NewUpdateServiceClient(f.conn).Update(ctx, updateOf("{}")))
	}
	if got := again("a"); status.Code(got.err) != codes.NotFound || len(f.host.asked) != 0 {
		t.Errorf("error %v, asked for %v", got.err, f.host.asked)
	}
	first := updateNamed(t, f, "a")
	if got := again("a"); got.header.Get(wire.HeaderOperation)[0] != first.header.Get(wire.HeaderOperation)[0] || len(f.host.asked) != 1 {
		t.Errorf("header %v, asked for %v", got.header, f.host.asked)
	}
}
