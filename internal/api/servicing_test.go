package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
	"github.com/trident-project/trident/proto/wire"
)

var _ Servicing = (*servicing.Service)(nil)

// fakeServicing begins operations of one step and notes what was asked for.
type fakeServicing struct {
	step    func(context.Context, *operation.Run[struct{}]) error
	undo    error // what taking it back comes to
	record  error // what the step after it comes to
	start   operation.Starter[struct{}]
	outcome servicing.Outcome
	refuse  error // instead of an operation
	idle    bool  // there is nothing to do
	plan    servicing.Plan
	there   string // the operation that a commit is answered with
	asked   []any
	carried []servicing.CarriedExtension
}

func newFakeServicing(r *operation.Runner) *fakeServicing {
	f := &fakeServicing{outcome: servicing.Outcome{Kind: servicing.RuntimeUpdate}}
	f.start = operation.Register(r, operation.Kind[struct{}]{Name: "host-update", Steps: []operation.Step[struct{}]{
		{
			Name: "stage",
			Do:   func(ctx context.Context, r *operation.Run[struct{}]) error { return f.step(ctx, r) },
			Undo: func(context.Context, *operation.Run[struct{}]) error { return f.undo },
		},
		{Name: "record", Do: func(context.Context, *operation.Run[struct{}]) error { return f.record }},
	}})
	return f
}

func (f *fakeServicing) begin(ctx context.Context, asked any) (string, error) {
	f.asked = append(f.asked, asked)
	if f.refuse != nil || f.idle {
		return "", f.refuse
	}
	op, err := f.start(ctx, "update the host", struct{}{})
	return op.ID, err
}

func (f *fakeServicing) RebuildRAID(ctx context.Context) (string, error) {
	return f.begin(ctx, "rebuild RAID arrays")
}
func (f *fakeServicing) Update(ctx context.Context, r servicing.UpdateRequest) (string, error) {
	return f.begin(ctx, r)
}
func (f *fakeServicing) Finalize(ctx context.Context, caller bool) (string, error) {
	return f.begin(ctx, []any{"finalize", caller})
}
func (f *fakeServicing) Commit(ctx context.Context, caller bool) (string, error) {
	if f.there != "" {
		return f.there, nil
	}
	return f.begin(ctx, []any{"commit", caller})
}
func (f *fakeServicing) Rollback(ctx context.Context, r servicing.RollbackRequest) (string, error) {
	return f.begin(ctx, r)
}
func (f *fakeServicing) Install(ctx context.Context, r servicing.InstallRequest) (string, error) {
	return f.begin(ctx, r)
}
func (f *fakeServicing) FinalizeInstall(ctx context.Context, caller bool) (string, error) {
	return f.begin(ctx, []any{"finalize install", caller})
}
func (f *fakeServicing) StreamDisk(ctx context.Context, r servicing.StreamRequest) (string, error) {
	return f.begin(ctx, r)
}
func (f *fakeServicing) CheckRoot(ctx context.Context) (string, error) {
	return f.begin(ctx, "check root")
}
func (f *fakeServicing) PlanInstall(_ context.Context, c *hostconfig.Config) (*servicing.Plan, error) {
	f.asked = append(f.asked, c)
	return &f.plan, f.refuse
}
func (f *fakeServicing) Plan(_ context.Context, c *hostconfig.Config) (*servicing.Plan, error) {
	f.plan.Effective = c
	return &f.plan, f.refuse
}
func (f *fakeServicing) PlanRebuild(context.Context) (*servicing.Plan, error) {
	return &f.plan, f.refuse
}
func (f *fakeServicing) PlanReset(context.Context) (*servicing.ResetPlan, error) {
	return &servicing.ResetPlan{Plan: f.plan, Stays: []string{"Trident"}, HostName: "web-1", Confirmation: "token"}, f.refuse
}
func (f *fakeServicing) Reset(ctx context.Context, confirmation string) (string, error) {
	return f.begin(ctx, "reset with "+confirmation)
}
func (f *fakeServicing) CarriedExtensions(context.Context) ([]servicing.CarriedExtension, error) {
	return f.carried, nil
}
func (f *fakeServicing) RecoveryKey(_ context.Context, id string) (string, []byte, error) {
	return id, []byte("key of " + id), f.refuse
}
func (f *fakeServicing) RequiredKind(context.Context, *hostconfig.Config) (servicing.Kind, error) {
	return f.plan.Kind, f.refuse
}

func (f *fakeServicing) Outcome(op operation.Operation) (servicing.Outcome, bool) {
	out := f.outcome
	out.RebootNeeded = op.Waiting == operation.Reboot
	return out, true
}

func (f *fakeServicing) ImageSHA384(context.Context) string { return f.outcome.ImageSHA384 }

func talks(_ context.Context, r *operation.Run[struct{}]) error {
	r.Logf(slog.LevelWarn, "first")
	r.Logf(slog.LevelDebug, "second")
	return nil
}

func configOf(text string) *tridentv1.HostConfiguration {
	return &tridentv1.HostConfiguration{Config: text}
}

func updateOf(text string) *tridentv1.UpdateRequest {
	return &tridentv1.UpdateRequest{Stage: &tridentv1.StageUpdateRequest{Config: configOf(text)}, Finalize: &tridentv1.FinalizeUpdateRequest{}}
}

// servicingCall is one stream of upstream's, read to its end.
type servicingCall struct {
	header metadata.MD
	all    []*tridentv1.ServicingResponse
	err    error
}

func read1(stream grpc.ServerStreamingClient[tridentv1.ServicingResponse], err error) servicingCall {
	out := servicingCall{err: err}
	for out.err == nil {
		var m *tridentv1.ServicingResponse
		if m, out.err = stream.Recv(); out.err == nil {
			out.all = append(out.all, m)
		}
	}
	if errors.Is(out.err, io.EOF) {
		out.header, out.err = stream.Header()
	}
	return out
}

// shape is what came, one word or line each.
func (c servicingCall) shape() []string {
	var out []string
	for _, m := range c.all {
		switch r := m.GetResponse().(type) {
		case *tridentv1.ServicingResponse_Started:
			out = append(out, "started")
		case *tridentv1.ServicingResponse_Log:
			out = append(out, strings.TrimPrefix(r.Log.GetLevel().String(), "LOG_LEVEL_")+" "+r.Log.GetModule()+" "+r.Log.GetMessage())
		case *tridentv1.ServicingResponse_Completed:
			out = append(out, "completed")
		}
		if m.GetTimestamp() == nil {
			out = append(out, "without a time")
		}
	}
	return out
}

func (c servicingCall) completed(t *testing.T) *tridentv1.Completed {
	t.Helper()
	if c.err != nil || len(c.all) < 2 || c.all[0].GetStarted() == nil || c.all[len(c.all)-1].GetCompleted() == nil {
		t.Fatalf("the stream is %v, %v", c.shape(), c.err)
	}
	return c.all[len(c.all)-1].GetCompleted()
}

func TestAnUpdateIsStartedThenItsLogThenCompleted(t *testing.T) {
	f := newFixture(t)
	f.host.step = talks
	got := read1(tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), updateOf("{}")))
	want := []string{"started", "INFO stage step: stage", "WARN stage first", "DEBUG stage second", "INFO record step: record", "completed"}
	if diff := cmp.Diff(want, got.shape()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	wantEnd := &tridentv1.Completed{
		Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: tridentv1.RebootStatus_REBOOT_NOT_REQUIRED,
		ServicingKind: tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE.Enum(),
	}
	if diff := cmp.Diff(wantEnd, got.completed(t), protocmp.Transform()); diff != "" {
		t.Errorf("completed (-want +got):\n%s", diff)
	}
	ids := got.header.Get(wire.HeaderOperation)
	if len(ids) != 1 {
		t.Fatalf("header %v", got.header)
	}
	if op, err := f.runner.Get(t.Context(), ids[0]); err != nil || op.Phase != operation.Done {
		t.Errorf("the header names an operation that is %v, %v", op.Phase, err)
	}
	asked, ok := f.host.asked[0].(servicing.UpdateRequest)
	if !ok || !asked.Stage || !asked.Finalize || asked.CallerReboots || asked.Config == nil {
		t.Errorf("asked for %+v", f.host.asked)
	}
}

func TestEachRequestReachesServicingWithItsOptions(t *testing.T) {
	caller := &tridentv1.RebootManagement{Handling: tridentv1.RebootHandling_CALLER_HANDLES_REBOOT}
	for name, c := range map[string]struct {
		call func(context.Context, *fixture) servicingCall
		want any
	}{
		"update finalize": {func(ctx context.Context, f *fixture) servicingCall {
			return read1(tridentv1.NewUpdateServiceClient(f.conn).UpdateFinalize(ctx, &tridentv1.FinalizeUpdateRequest{Reboot: caller}))
		}, []any{"finalize", true}},
		"commit": {func(ctx context.Context, f *fixture) servicingCall {
			return read1(tridentv1.NewCommitServiceClient(f.conn).Commit(ctx, &tridentv1.CommitRequest{}))
		}, []any{"commit", false}},
		"install finalize": {func(ctx context.Context, f *fixture) servicingCall {
			return read1(tridentv1preview.NewInstallServiceClient(f.conn).InstallFinalize(ctx, &tridentv1preview.FinalizeInstallRequest{Reboot: caller}))
		}, []any{"finalize install", true}},
		"check root": {func(ctx context.Context, f *fixture) servicingCall {
			return read1(tridentv1preview.NewCommitServiceClient(f.conn).CheckRoot(ctx, &tridentv1preview.CheckRootRequest{}))
		}, "check root"},
		"rebuild RAID": {func(ctx context.Context, f *fixture) servicingCall {
			return read1(tridentv1preview.NewRebuildRaidServiceClient(f.conn).RebuildRaid(ctx, &tridentv1preview.RebuildRaidRequest{}))
		}, "rebuild RAID arrays"},
		"stream disk": {func(ctx context.Context, f *fixture) servicingCall {
			return read1(tridentv1.NewStreamingServiceClient(f.conn).StreamDisk(ctx, &tridentv1.StreamDiskRequest{ImageUrl: "file:///x.cosi", Reboot: caller}))
		}, servicing.StreamRequest{URL: "file:///x.cosi", SHA384: "ignored", CallerReboots: true}},
		"rollback": {func(ctx context.Context, f *fixture) servicingCall {
			return read1(tridentv1preview.NewRollbackServiceClient(f.conn).Rollback(ctx, &tridentv1preview.RollbackRequest{
				Kind: tridentv1preview.ManualRollbackKind_RUNTIME_ROLLBACK_REQUESTED, Finalize: &tridentv1preview.RollbackFinalizeRequest{Reboot: caller},
			}))
		}, servicing.RollbackRequest{Kind: hoststate.RuntimeLink, Stage: true, Finalize: true, CallerReboots: true}},
		"rollback stage": {func(ctx context.Context, f *fixture) servicingCall {
			return read1(tridentv1preview.NewRollbackServiceClient(f.conn).RollbackStage(ctx, &tridentv1preview.RollbackStageRequest{
				Kind: tridentv1preview.ManualRollbackKind_AB_ROLLBACK_REQUESTED,
			}))
		}, servicing.RollbackRequest{Kind: hoststate.ABLink, Stage: true}},
		"rollback finalize": {func(ctx context.Context, f *fixture) servicingCall {
			return read1(tridentv1preview.NewRollbackServiceClient(f.conn).RollbackFinalize(ctx, &tridentv1preview.RollbackFinalizeRequest{}))
		}, servicing.RollbackRequest{Finalize: true}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.host.step = talks
			c.call(t.Context(), f).completed(t)
			if diff := cmp.Diff([]any{c.want}, f.host.asked); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFailureHasUpstreamsKindAndSubkind(t *testing.T) {
	f := newFixture(t)
	f.host.step = func(context.Context, *operation.Run[struct{}]) error {
		return errkind.WithName(errkind.WithHint(errkind.Errorf(errkind.Timeout, "run script a: 30s have passed\nof 30s"), "make it faster"), "RunPostConfigureScript")
	}
	got := read1(tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), updateOf("{}"))).completed(t)
	want := &tridentv1.Completed{
		Status: tridentv1.StatusCode_STATUS_CODE_FAILURE, RebootStatus: tridentv1.RebootStatus_REBOOT_NOT_REQUIRED,
		Error: &tridentv1.TridentError{
			Kind: tridentv1.TridentErrorKind_SERVICING_ERROR, Subkind: "run-post-configure-script",
			Message: "stage: run script a: 30s have passed\nof 30s\nmake it faster", ErrorMessage: "stage: run script a: 30s have passed",
			Location: &tridentv1.FileLocation{Path: "internal/api/servicing_test.go", Line: got.GetError().GetLocation().GetLine()},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || got.GetError().GetLocation().GetLine() == 0 {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCommitFailsAfterARollback(t *testing.T) {
	f := newFixture(t)
	f.host.step = talks
	f.host.outcome.Failure = &operation.Failure{
		Kind: errkind.Unhealthy, Message: "unit x is down\nit died", Name: "HealthChecksFailed", File: "internal/x/y.go", Line: 12,
	}
	got := read1(tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), updateOf("{}"))).completed(t)
	want := &tridentv1.TridentError{
		Kind: tridentv1.TridentErrorKind_HEALTH_CHECKS_ERROR, Subkind: "health-checks-failed", Message: "unit x is down\nit died",
		ErrorMessage: "unit x is down", Location: &tridentv1.FileLocation{Path: "internal/x/y.go", Line: 12},
	}
	if diff := cmp.Diff(want, got.GetError(), protocmp.Transform()); diff != "" || got.GetStatus() != tridentv1.StatusCode_STATUS_CODE_FAILURE {
		t.Errorf("%s (-want +got):\n%s", got.GetStatus(), diff)
	}
}

func TestAConfigurationWithFaultsIsAFailedUpdate(t *testing.T) {
	f := newFixture(t)
	got := read1(tridentv1.NewUpdateServiceClient(f.conn).UpdateStage(t.Context(), &tridentv1.StageUpdateRequest{Config: configOf("os: [")}))
	end := got.completed(t)
	if end.GetError().GetKind() != tridentv1.TridentErrorKind_INVALID_INPUT_ERROR || end.GetError().GetSubkind() != "parse-host-configuration" {
		t.Errorf("completed %v", end)
	}
	if len(f.host.asked) != 0 || len(got.header.Get(wire.HeaderOperation)) != 0 {
		t.Errorf("asked for %v, header %v", f.host.asked, got.header)
	}
}

func TestARequestWithoutChangesBeginsNoOperation(t *testing.T) {
	f := newFixture(t)
	f.host.idle = true
	got := read1(tridentv1.NewCommitServiceClient(f.conn).Commit(t.Context(), &tridentv1.CommitRequest{})).completed(t)
	if got.GetStatus() != tridentv1.StatusCode_STATUS_CODE_SUCCESS || got.GetServicingKind() != tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED {
		t.Errorf("completed %v", got)
	}
}

func TestAStreamEndsBeforeTheReboot(t *testing.T) {
	for handling, want := range map[tridentv1.RebootHandling]tridentv1.RebootStatus{
		tridentv1.RebootHandling_REBOOT_HANDLING_UNSPECIFIED: tridentv1.RebootStatus_REBOOT_STARTED,
		tridentv1.RebootHandling_TRIDENT_HANDLES_REBOOT:      tridentv1.RebootStatus_REBOOT_STARTED,
		tridentv1.RebootHandling_CALLER_HANDLES_REBOOT:       tridentv1.RebootStatus_REBOOT_REQUIRED,
	} {
		t.Run(handling.String(), func(t *testing.T) {
			f := newFixture(t)
			f.host.outcome = servicing.Outcome{Kind: servicing.ABUpdate}
			f.host.step = func(context.Context, *operation.Run[struct{}]) error { return operation.ErrReboot }
			req := updateOf("{}")
			req.Finalize.Reboot = &tridentv1.RebootManagement{Handling: handling}
			got := read1(tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), req)).completed(t)
			if got.GetRebootStatus() != want || got.GetServicingKind() != tridentv1.ServicingKind_SERVICING_KIND_AB_UPDATE {
				t.Errorf("completed %v", got)
			}
		})
	}
}

func TestAnInvalidRequestNamesItsField(t *testing.T) {
	f := newFixture(t)
	client := tridentv1.NewUpdateServiceClient(f.conn)
	finalize := &tridentv1.FinalizeUpdateRequest{}
	for field, err := range map[string]error{
		"stage":           read1(client.Update(t.Context(), &tridentv1.UpdateRequest{Finalize: finalize})).err,
		"finalize":        read1(client.Update(t.Context(), &tridentv1.UpdateRequest{Stage: &tridentv1.StageUpdateRequest{}})).err,
		"stage.config":    read1(client.Update(t.Context(), &tridentv1.UpdateRequest{Stage: &tridentv1.StageUpdateRequest{}, Finalize: finalize})).err,
		"config":          read1(client.UpdateStage(t.Context(), &tridentv1.StageUpdateRequest{})).err,
		"reboot.handling": read1(client.UpdateFinalize(t.Context(), &tridentv1.FinalizeUpdateRequest{Reboot: &tridentv1.RebootManagement{Handling: 99}})).err,
		"kind": read1(tridentv1preview.NewRollbackServiceClient(f.conn).RollbackStage(t.Context(),
			&tridentv1preview.RollbackStageRequest{Kind: 99})).err,
	} {
		var got []string
		for _, d := range status.Convert(err).Details() {
			if bad, ok := d.(*errdetails.BadRequest); ok {
				for _, v := range bad.GetFieldViolations() {
					got = append(got, v.GetField())
				}
			}
		}
		if diff := cmp.Diff([]string{field}, got); diff != "" || status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v %s", field, err, diff)
		}
	}
}

func TestABusyHostRefusesAnUpdateAndAnswersStatus(t *testing.T) {
	f := newFixture(t)
	id := f.work()
	err := read1(tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), updateOf("{}"))).err
	kind, _, meta := grpckind.FromError(err)
	if status.Code(err) != codes.Unavailable || kind != errkind.Busy || meta[grpckind.MetaOperation] != id {
		t.Errorf("%v, kind %s, metadata %v", err, kind, meta)
	}
	if _, err := tridentv1preview.NewStatusServiceClient(f.conn).GetServicingState(t.Context(), &tridentv1preview.GetServicingStateRequest{}); err != nil {
		t.Errorf("status during servicing: %v", err)
	}
}

func TestAnUnsupportedUpdateIsUnimplemented(t *testing.T) {
	f := newFixture(t)
	f.host.refuse = errkind.Errorf(errkind.Unsupported, "update the host: this version of Trident cannot do A/B updates yet")
	if err := read1(tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), updateOf("{}"))).err; status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}

func TestAnUpdateOfADaemonThatStopsEndsWithReattach(t *testing.T) {
	f := newFixture(t)
	running := make(chan struct{})
	f.host.step = func(ctx context.Context, _ *operation.Run[struct{}]) error {
		close(running)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	stream, err := tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), updateOf("{}"))
	if err != nil {
		t.Fatal(err)
	}
	<-running
	if err := f.runner.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read1(stream, nil); !grpckind.IsReattach(got.err) {
		t.Errorf("the stream ended with %v", got.err)
	}
}

func updateByHandle(t *testing.T, f *fixture) {
	t.Helper()
	f.host.step = talks
	ctx := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderConfigHandle, strconv.FormatInt(openConfig(t, f.conn, specOne), 10))
	read1(tridentv1.NewUpdateServiceClient(f.conn).UpdateStage(ctx, &tridentv1.StageUpdateRequest{})).completed(t)
	asked, ok := f.host.asked[0].(servicing.UpdateRequest)
	if !ok || len(asked.Config.Spec().OS.Sysexts) != 1 {
		t.Errorf("asked for %+v", f.host.asked)
	}
}

func TestAnUpdateTakesAConfigurationThatWasOpenedBefore(t *testing.T) {
	f := newFixture(t)
	updateByHandle(t, f)
	client := tridentv1.NewUpdateServiceClient(f.conn)
	for handle, want := range map[string]codes.Code{"x": codes.InvalidArgument, "0": codes.InvalidArgument, "99": codes.NotFound} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderConfigHandle, handle)
		if err := read1(client.UpdateStage(ctx, &tridentv1.StageUpdateRequest{})).err; status.Code(err) != want {
			t.Errorf("handle %s: %v", handle, err)
		}
		if err := read1(client.Update(ctx, updateOf("{}"))).err; status.Code(err) != codes.InvalidArgument {
			t.Errorf("handle %s and a text: %v", handle, err)
		}
	}
}
