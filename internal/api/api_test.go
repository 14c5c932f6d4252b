package api

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

func TestVersionAnswers(t *testing.T) {
	f := newFixture(t)
	got, err := Check(t.Context(), f.socket)
	if err != nil || got != "1.2.3" {
		t.Errorf("Check = %q, %v", got, err)
	}
}

func TestHealthIsServingUntilDrained(t *testing.T) {
	f := newFixture(t)
	watch, err := healthpb.NewHealthClient(f.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := watch.Recv()
	if err != nil || first.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("first health is %v, %v", first, err)
	}
	f.server.Drain()
	second, err := watch.Recv()
	if err != nil || second.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Fatalf("health after Drain is %v, %v", second, err)
	}
}

func TestAHealthWatchDoesNotDelayShutdown(t *testing.T) {
	f := newFixture(t)
	watch, err := healthpb.NewHealthClient(f.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f.server.Stop(ctx, f.listener)
	if ctx.Err() != nil {
		t.Error("the server waited for the watch until it had to cut it off")
	}
}

func TestAServerThatIsStoppedBeforeItServesEndsWell(t *testing.T) {
	l, _ := testListener(t)
	s := New(Config{Version: "1.2.3", Logger: slog.New(slog.DiscardHandler)})
	s.Stop(t.Context(), l)
	if err := s.Serve(l); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestReflectionListsTheServices(t *testing.T) {
	f := newFixture(t)
	stream, err := reflectionpb.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		got = append(got, s.GetName())
	}
	want := []string{
		"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
		"trident.handles.v1.HandleService", "trident.host.v1.HostService",
		"trident.machine.v1.CaptureService", "trident.machine.v1.FileService", "trident.machine.v1.LogService", "trident.machine.v1.MountService", "trident.machine.v1.PowerService", "trident.machine.v1.ResetService", "trident.machine.v1.SystemService", "trident.machine.v1.UnitService",
		"trident.operations.v1.OperationsService", "trident.self.v1.SelfService",
		"trident.setup.v1.SetupService",
		"trident.v1.CommitService", "trident.v1.StreamingService", "trident.v1.UpdateService", "trident.v1.VersionService",
		"trident.v1preview.CommitService", "trident.v1preview.InstallService", "trident.v1preview.RebuildRaidService",
		"trident.v1preview.RollbackService", "trident.v1preview.StatusService", "trident.v1preview.ValidationService",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}

func TestAMessageOverTheLimitIsRefused(t *testing.T) {
	f := newFixture(t)
	_, err := operationsv1.NewOperationsServiceClient(f.conn).Get(t.Context(), &operationsv1.GetRequest{Id: strings.Repeat("x", maxMessage)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message of more than %d bytes: %v", maxMessage, err)
	}
}

func TestTheLogOfCallsHasNoPayload(t *testing.T) {
	f := newFixture(t)
	id := f.work()
	if _, err := operationsv1.NewOperationsServiceClient(f.conn).Get(t.Context(), &operationsv1.GetRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	stream, err := selfv1.NewSelfServiceClient(f.conn).Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start := &selfv1.StageRequest{Part: &selfv1.StageRequest_Start_{Start: &selfv1.StageRequest_Start{
		Source: &selfv1.Source{From: &selfv1.Source_Url{Url: "https://user:hunter2@host/x"}},
	}}}
	if err := stream.Send(start); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("a second operation began")
	}
	if err := f.conn.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f.server.Stop(ctx, f.listener)
	got := f.log.String()
	for _, want := range []string{"method=" + operationsv1.OperationsService_Get_FullMethodName, "code=OK", "uid=", "pid=", "duration="} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "hunter2") {
		t.Errorf("the log has a secret:\n%s", got)
	}
}
