package api

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/proto/client/clienttest"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
	"github.com/trident-project/trident/proto/wire"
)

// conform runs a subtest over a socket of the real API and one over a socket of
// the fake, whose operations both write two log lines and end.
func conform(t *testing.T, test func(t *testing.T, conn *grpc.ClientConn)) {
	t.Run("api", func(t *testing.T) {
		f := newFixture(t)
		f.host.step = talks
		test(t, f.conn)
	})
	t.Run("clienttest", func(t *testing.T) {
		socket := t.TempDir() + "/s"
		fake := clienttest.New(clienttest.Config{Version: "1.2.3", Script: []*operationsv1.Event{
			clienttest.Step(operationsv1.Phase_PHASE_DOING, "stage", nil),
			clienttest.Log("stage", operationsv1.Severity_SEVERITY_WARNING, "first"),
			clienttest.Log("stage", operationsv1.Severity_SEVERITY_DEBUG, "second"),
			clienttest.Step(operationsv1.Phase_PHASE_DOING, "record", nil),
			clienttest.Step(operationsv1.Phase_PHASE_DONE, "record", nil),
		}})
		t.Cleanup(fake.Close)
		if err := fake.Listen(socket); err != nil {
			t.Fatal(err)
		}
		test(t, dial(t, socket))
	})
}

// refusal is what a program can see of an error: its code, its reason and the field
// of the request that it is about.
func refusal(err error) string {
	out := []string{status.Code(err).String()}
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			out = append(out, d.GetReason())
		case *errdetails.BadRequest:
			out = append(out, d.GetFieldViolations()[0].GetField())
		}
	}
	return strings.Join(out, " ")
}

// endOf reads a stream and returns the error by which it ends.
func endOf[Resp any](stream interface{ Recv() (*Resp, error) }, err error) error {
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func errorOf(_ any, err error) error { return err }

func stageOf(t *testing.T, ctx context.Context, conn *grpc.ClientConn, requests ...*selfv1.StageRequest) error {
	stream, err := selfv1.NewSelfServiceClient(conn).Stage(ctx)
	for _, req := range requests {
		if err == nil {
			err = stream.Send(req)
		}
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return endOf(stream, nil)
}

func stageFrom(source *selfv1.Source) *selfv1.StageRequest {
	return &selfv1.StageRequest{Part: &selfv1.StageRequest_Start_{Start: &selfv1.StageRequest_Start{Source: source}}}
}

func TestTheFakeRefusesWhatTheServerRefuses(t *testing.T) {
	const noStart, invalid = "InvalidArgument INVALID start", "InvalidArgument INVALID"
	wrongReboot := &tridentv1.RebootManagement{Handling: 99}
	for name, c := range map[string]struct {
		want string
		call func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error
	}{
		"an operation that is not there": {"NotFound NOT_FOUND", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(operationsv1.NewOperationsServiceClient(conn).Get(ctx, &operationsv1.GetRequest{Id: "x"}))
		}},
		"a watch of an operation that is not there": {"NotFound NOT_FOUND", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(operationsv1.NewOperationsServiceClient(conn).Watch(ctx, &operationsv1.WatchRequest{Id: "x"}))
		}},
		"a list below nothing": {invalid, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(operationsv1.NewOperationsServiceClient(conn).List(ctx, &operationsv1.ListRequest{Limit: -1}))
		}},
		"a history that is too long": {invalid, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(selfv1.NewSelfServiceClient(conn).History(ctx, &selfv1.HistoryRequest{Limit: 1001}))
		}},
		"an update without stage": {"InvalidArgument INVALID stage", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewUpdateServiceClient(conn).Update(ctx, &tridentv1.UpdateRequest{Finalize: &tridentv1.FinalizeUpdateRequest{}}))
		}},
		"an update without finalize": {"InvalidArgument INVALID finalize", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewUpdateServiceClient(conn).Update(ctx, &tridentv1.UpdateRequest{Stage: &tridentv1.StageUpdateRequest{Config: configOf("{}")}}))
		}},
		"an update without a configuration": {"InvalidArgument INVALID stage.config", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewUpdateServiceClient(conn).Update(ctx, &tridentv1.UpdateRequest{Stage: &tridentv1.StageUpdateRequest{}, Finalize: &tridentv1.FinalizeUpdateRequest{}}))
		}},
		"an installation without finalize": {"InvalidArgument INVALID finalize", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1preview.NewInstallServiceClient(conn).Install(ctx, &tridentv1preview.InstallRequest{Stage: &tridentv1preview.StageInstallRequest{Config: configOf("{}")}}))
		}},
		"a staged installation without a configuration": {"InvalidArgument INVALID config", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1preview.NewInstallServiceClient(conn).InstallStage(ctx, &tridentv1preview.StageInstallRequest{}))
		}},
		"a reboot by nobody": {"InvalidArgument INVALID reboot.handling", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewCommitServiceClient(conn).Commit(ctx, &tridentv1.CommitRequest{Reboot: wrongReboot}))
		}},
		"two configurations": {"InvalidArgument INVALID " + wire.HeaderConfigHandle, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewUpdateServiceClient(conn).Update(metadata.AppendToOutgoingContext(ctx, wire.HeaderConfigHandle, "1"), updateOf("os: {}")))
		}},
		"a handle in a header that is not a number": {"InvalidArgument INVALID " + wire.HeaderConfigHandle, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewUpdateServiceClient(conn).Update(metadata.AppendToOutgoingContext(ctx, wire.HeaderConfigHandle, "one"), updateOf("")))
		}},
		"a handle in a header that is not open": {"NotFound NOT_FOUND " + wire.HeaderConfigHandle, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewUpdateServiceClient(conn).Update(metadata.AppendToOutgoingContext(ctx, wire.HeaderConfigHandle, "7"), updateOf("")))
		}},
		"two names of one request": {"InvalidArgument INVALID " + wire.HeaderRequest, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewUpdateServiceClient(conn).Update(named(named(ctx, "a"), "b"), updateOf("{}")))
		}},
		"a request whose name is too long": {"InvalidArgument INVALID " + wire.HeaderRequest, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewUpdateServiceClient(conn).Update(named(ctx, strings.Repeat("x", wire.MaxRequest+1)), updateOf("{}")))
		}},
		"a repeated request that nobody made": {"NotFound NOT_FOUND " + wire.HeaderRequest, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewUpdateServiceClient(conn).Update(metadata.AppendToOutgoingContext(named(ctx, "a"), wire.HeaderRepeated, "true"), updateOf("{}")))
		}},
		"a disk from no URL": {"InvalidArgument INVALID image_url", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(tridentv1.NewStreamingServiceClient(conn).StreamDisk(ctx, &tridentv1.StreamDiskRequest{ImageUrl: "x"}))
		}},
		"a disk at no speed": {"InvalidArgument INVALID " + wire.HeaderBytesPerSecond, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			ctx = metadata.AppendToOutgoingContext(ctx, wire.HeaderBytesPerSecond, "0")
			return endOf(tridentv1.NewStreamingServiceClient(conn).StreamDisk(ctx, &tridentv1.StreamDiskRequest{ImageUrl: "https://x/y"}))
		}},
		"a validation of nothing": {"InvalidArgument INVALID config", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(hostv1.NewHostServiceClient(conn).ValidateConfig(ctx, &hostv1.ValidateConfigRequest{}))
		}},
		"a validation of a handle that is not open": {"NotFound NOT_FOUND config_handle", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(hostv1.NewHostServiceClient(conn).ValidateConfig(ctx, &hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_ConfigHandle{ConfigHandle: 7}}))
		}},
		"a plan of nothing": {"InvalidArgument INVALID config", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(hostv1.NewHostServiceClient(conn).PlanUpdate(ctx, &hostv1.PlanUpdateRequest{}))
		}},
		"a plan of an installation of nothing": {"InvalidArgument INVALID config", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(hostv1.NewHostServiceClient(conn).PlanInstall(ctx, &hostv1.PlanInstallRequest{}))
		}},
		"upstream's validation of nothing": {"InvalidArgument INVALID config", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(tridentv1preview.NewValidationServiceClient(conn).ValidateHostConfiguration(ctx, &tridentv1preview.ValidateHostConfigurationRequest{}))
		}},
		"upstream's kind of servicing of nothing": {"InvalidArgument INVALID config", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(tridentv1preview.NewValidationServiceClient(conn).GetRequiredServicingType(ctx, &tridentv1preview.GetRequiredServicingTypeRequest{}))
		}},
		"an upload without start": {noStart, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return stageOf(t, ctx, conn, &selfv1.StageRequest{Part: &selfv1.StageRequest_Chunk{Chunk: []byte("x")}})
		}},
		"a stage from nowhere": {invalid, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return stageOf(t, ctx, conn, stageFrom(&selfv1.Source{}))
		}},
		"a stage with half a hash": {invalid, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return stageOf(t, ctx, conn, stageFrom(&selfv1.Source{From: &selfv1.Source_Path{Path: "/x"}, Sha256: "abc"}))
		}},
		"an empty upload": {invalid, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return stageOf(t, ctx, conn, stageFrom(&selfv1.Source{From: &selfv1.Source_Upload{Upload: &selfv1.Upload{}}}))
		}},
		"a stage of a handle that is not open": {"NotFound NOT_FOUND start.source.image_handle", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return stageOf(t, ctx, conn, stageFrom(&selfv1.Source{From: &selfv1.Source_ImageHandle{ImageHandle: 7}}))
		}},
		"a stage of a handle of something else": {"InvalidArgument INVALID start.source.image_handle", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			id := openImage(t, conn, sysext, "bytes").GetImageHandle()
			return stageOf(t, ctx, conn, stageFrom(&selfv1.Source{From: &selfv1.Source_ImageHandle{ImageHandle: id}}))
		}},
		"a stage with a negative bound": {"InvalidArgument INVALID start.source.max_bytes", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return stageOf(t, ctx, conn, stageFrom(&selfv1.Source{From: &selfv1.Source_Path{Path: "/x"}, MaxBytes: -1}))
		}},
		"an upload with a bound": {"InvalidArgument INVALID start.source.max_bytes", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return stageOf(t, ctx, conn, stageFrom(&selfv1.Source{From: &selfv1.Source_Upload{Upload: &selfv1.Upload{Size: 3}}, MaxBytes: 7}))
		}},
		"a version of the feed with a hash": {"InvalidArgument INVALID start.source.sha256", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return stageOf(t, ctx, conn, stageFrom(&selfv1.Source{From: &selfv1.Source_Feed{Feed: &selfv1.FeedVersion{}}, Sha256: strings.Repeat("a", 64)}))
		}},
		"an incoming image with a hash": {"InvalidArgument INVALID start.source.sha256", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return stageOf(t, ctx, conn, stageFrom(&selfv1.Source{From: &selfv1.Source_Incoming{Incoming: &selfv1.Incoming{}}, Sha256: strings.Repeat("a", 64)}))
		}},
		"a setting that is none": {"InvalidArgument INVALID set", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(selfv1.NewSelfServiceClient(conn).SetPolicy(ctx, &selfv1.SetPolicyRequest{Set: []string{"maxBytes"}}))
		}},
		"a reset of a setting that is none": {"InvalidArgument INVALID reset", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(selfv1.NewSelfServiceClient(conn).SetPolicy(ctx, &selfv1.SetPolicyRequest{Reset_: []string{"colour"}}))
		}},
		"a setting that is set and reset": {"InvalidArgument INVALID policy.pin", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(selfv1.NewSelfServiceClient(conn).SetPolicy(ctx, &selfv1.SetPolicyRequest{Set: []string{"pin"}, Reset_: []string{"pin"}}))
		}},
		"a negative setting": {"InvalidArgument INVALID policy.max_bytes", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(selfv1.NewSelfServiceClient(conn).SetPolicy(ctx, &selfv1.SetPolicyRequest{Policy: &selfv1.Policy{MaxBytes: -1}, Set: []string{"max_bytes"}}))
		}},
		"a negative trial": {invalid, func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return endOf(selfv1.NewSelfServiceClient(conn).Rollback(ctx, &selfv1.RollbackRequest{Trial: &selfv1.Trial{Soak: durationpb.New(-1)}}))
		}},
		"a small message": {"InvalidArgument INVALID limits.max_message_bytes", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(setupv1.NewSetupServiceClient(conn).Handshake(ctx, &setupv1.HandshakeRequest{Limits: &setupv1.Limits{MaxMessageBytes: 1}}))
		}},
		"a capability that no daemon has": {"FailedPrecondition PRECONDITION", func(t *testing.T, ctx context.Context, conn *grpc.ClientConn) error {
			return errorOf(setupv1.NewSetupServiceClient(conn).Handshake(ctx, &setupv1.HandshakeRequest{RequiredCapabilities: []string{"wings"}}))
		}},
		"an image from nowhere": {"InvalidArgument INVALID start.from", func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			return errorOf(tryImage(t, conn, &imageStart{Kind: sysext}))
		}},
		"an image of no kind": {"InvalidArgument INVALID start.kind", func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			return errorOf(tryImage(t, conn, uploaded(0, 1), "x"))
		}},
		"an image with half a hash": {"InvalidArgument INVALID start.sha384", func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			return errorOf(tryImage(t, conn, &imageStart{Kind: sysext, From: &handlesv1.OpenImageRequest_Start_Path{Path: "/x"}, Sha384: "ab"}))
		}},
		"an image with another hash": {"DataLoss CORRUPT", func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			start := uploaded(sysext, 1)
			start.Sha384 = sum384("y")
			return errorOf(tryImage(t, conn, start, "x"))
		}},
		"half an image": {"Unavailable UNAVAILABLE", func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			return errorOf(tryImage(t, conn, uploaded(sysext, 6), "abc"))
		}},
		"more than an image": {invalid, func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			return errorOf(tryImage(t, conn, uploaded(sysext, 2), "abc"))
		}},
		"an empty chunk": {invalid, func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			return errorOf(tryImage(t, conn, uploaded(sysext, 2), ""))
		}},
		"an empty configuration": {"InvalidArgument INVALID start.size", func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			return errorOf(tryConfig(t, conn, &handlesv1.OpenConfigRequest_Start{}))
		}},
		"a configuration with another hash": {"DataLoss CORRUPT", func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			return errorOf(tryConfig(t, conn, &handlesv1.OpenConfigRequest_Start{Size: 1, Sha384: sum384("y")}, "x"))
		}},
		"handle 0 closed": {"InvalidArgument INVALID handle", func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			return closeHandle(t, conn, 0)
		}},
		"a handle closed that is not open": {"NotFound NOT_FOUND handle", func(t *testing.T, _ context.Context, conn *grpc.ClientConn) error {
			return closeHandle(t, conn, 7)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			conform(t, func(t *testing.T, conn *grpc.ClientConn) {
				if got := c.call(t, t.Context(), conn); refusal(got) != c.want || got.Error() == "" {
					t.Errorf("%s (%v), want %s", refusal(got), got, c.want)
				}
			})
		})
	}
}

func TestHandshakesOfServerAndFakeAreTheSame(t *testing.T) {
	conform(t, func(t *testing.T, conn *grpc.ClientConn) {
		got, err := setupv1.NewSetupServiceClient(conn).Handshake(t.Context(), &setupv1.HandshakeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if !equal(limitsToWire(), got.GetLimits()) || len(got.GetApiPackages()) != 8 || got.GetDaemonId() == "" {
			t.Errorf("the daemon says %v", got)
		}
		if diff := cmp.Diff(wire.Capabilities(true), got.GetCapabilities()); diff != "" {
			t.Errorf("capabilities (-want +got):\n%s", diff)
		}
	})
}

func TestUpdateStreamsOfServerAndFakeAreTheSame(t *testing.T) {
	conform(t, func(t *testing.T, conn *grpc.ClientConn) {
		update := read1(tridentv1.NewUpdateServiceClient(conn).Update(named(t.Context(), "a"), updateOf("{}")))
		want := []string{"started", "INFO stage step: stage", "WARN stage first", "DEBUG stage second", "INFO record step: record", "completed"}
		if diff := cmp.Diff(want, update.shape()); diff != "" {
			t.Errorf("the stream has (-want +got):\n%s", diff)
		}
		ids := update.header.Get(wire.HeaderOperation)
		if len(ids) != 1 || len(update.header.Get(wire.HeaderAfter)) != 0 {
			t.Fatalf("header %v", update.header)
		}
		again := read1(tridentv1.NewUpdateServiceClient(conn).Update(named(t.Context(), "a"), updateOf("{}")))
		if got := again.header.Get(wire.HeaderOperation); len(got) != 1 || got[0] != ids[0] {
			t.Errorf("the repeated call shows operation %v, not %v", got, ids)
		}
		client := operationsv1.NewOperationsServiceClient(conn)
		op, err := client.Get(t.Context(), &operationsv1.GetRequest{Id: ids[0]})
		if err != nil || op.GetOperation().GetPhase() != operationsv1.Phase_PHASE_DONE {
			t.Errorf("the operation ended as %v, %v", op, err)
		}
		if _, err := client.Cancel(t.Context(), &operationsv1.CancelRequest{Id: ids[0]}); refusal(err) != "FailedPrecondition PRECONDITION" {
			t.Errorf("an operation that has ended is cancelled: %v", err)
		}
		if _, err := client.Continue(t.Context(), &operationsv1.ContinueRequest{Id: ids[0]}); refusal(err) != "FailedPrecondition PRECONDITION" {
			t.Errorf("an operation that has ended is continued: %v", err)
		}
		if _, err := client.Continue(t.Context(), &operationsv1.ContinueRequest{Id: "none"}); refusal(err) != "NotFound NOT_FOUND" {
			t.Errorf("an operation that does not exist is continued: %v", err)
		}
	})
}

func TestPoliciesOfServerAndFakeBehaveTheSame(t *testing.T) {
	conform(t, func(t *testing.T, conn *grpc.ClientConn) {
		self := selfv1.NewSelfServiceClient(conn)
		off, activate := selfv1.Auto_AUTO_OFF, selfv1.Auto_AUTO_ACTIVATE
		all := &selfv1.Policy{
			Feed: "https://example.org/feed", Channel: "beta", Auto: activate, Hold: &selfv1.Hold{Until: timestamppb.New(time.Unix(4e9, 0)), Reason: "holidays"}, Pin: "2.0.0",
			Window: &selfv1.Window{Days: []int32{1, 5}, Begin: 120, End: 300, TimeZone: "UTC"}, MaxBytes: 7, Grace: durationpb.New(time.Hour), AllowReadOnlyUsr: true,
		}
		names := []string{"allow_read_only_usr", "auto", "channel", "feed", "grace", "hold", "max_bytes", "pin", "window"}
		for _, step := range []struct {
			p          *selfv1.Policy
			set, reset []string
			want       *selfv1.Policy
			names      []string
		}{
			{nil, nil, nil, &selfv1.Policy{Auto: off}, nil},
			{all, []string{"pin"}, nil, &selfv1.Policy{Auto: off, Pin: "2.0.0"}, []string{"pin"}},
			{all, names, nil, all, names},
			{&selfv1.Policy{}, []string{"hold", "allow_read_only_usr"}, []string{"feed", "window", "grace"}, &selfv1.Policy{Channel: "beta", Auto: activate, Pin: "2.0.0", MaxBytes: 7},
				[]string{"allow_read_only_usr", "auto", "channel", "hold", "max_bytes", "pin"}},
			{nil, nil, names, &selfv1.Policy{Auto: off}, nil},
		} {
			set, err := self.SetPolicy(t.Context(), &selfv1.SetPolicyRequest{Policy: step.p, Set: step.set, Reset_: step.reset})
			if diff := cmp.Diff(step.want, set.GetPolicy(), protocmp.Transform()); err != nil || diff != "" {
				t.Error(err, diff)
			}
			got, err := self.GetPolicy(t.Context(), &selfv1.GetPolicyRequest{})
			want := &selfv1.GetPolicyResponse{Policy: step.want, Set: step.names}
			if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
				t.Error(err, diff)
			}
			status, err := self.GetStatus(t.Context(), &selfv1.GetStatusRequest{})
			if diff := cmp.Diff(step.want, status.GetPolicy(), protocmp.Transform()); err != nil || diff != "" {
				t.Error(err, diff)
			}
		}
	})
}

func TestHandlesOfServerAndFakeBehaveTheSame(t *testing.T) {
	conform(t, func(t *testing.T, conn *grpc.ClientConn) {
		openImage(t, conn, trident, "an image") // looks at size and hash
		config := openConfig(t, conn, "os: {}")
		if err := closeHandle(t, conn, config); err != nil {
			t.Error(err)
		}
		if err := closeHandle(t, conn, config); refusal(err) != "NotFound NOT_FOUND handle" {
			t.Errorf("closed twice: %v", err)
		}
	})
}
