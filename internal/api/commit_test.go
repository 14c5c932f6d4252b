package api

import (
	"context"
	"log/slog"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
	"github.com/trident-project/trident/internal/servicing"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

// rebooted is a host in its next boot, with an operation that had it rebooted.
func rebooted(t *testing.T, journal operation.Journal) (f *fixture, id string) {
	t.Helper()
	before := newFixtureIn(t, journal, "boot 1")
	before.resume(t)
	before.host.step = func(_ context.Context, r *operation.Run[struct{}]) error {
		r.Logf(slog.LevelInfo, "said before the boot")
		return operation.ErrReboot
	}
	call := read1(tridentv1.NewUpdateServiceClient(before.conn).Update(t.Context(), updateOf("{}")))
	if call.completed(t).GetRebootStatus() != tridentv1.RebootStatus_REBOOT_STARTED {
		t.Fatalf("completed %v", call.completed(t))
	}
	if err := before.runner.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	f = newFixtureIn(t, journal, "boot 2")
	f.host.there, f.host.outcome = call.header.Get(wire.HeaderOperation)[0], servicing.Outcome{Kind: servicing.ABUpdate}
	return f, f.host.there
}

// commitNamed commits by a request that has a name.
func commitNamed(t *testing.T, f *fixture, name string, handling tridentv1.RebootHandling) servicingCall {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderRequest, name)
	return read1(tridentv1.NewCommitServiceClient(f.conn).Commit(ctx, &tridentv1.CommitRequest{Reboot: &tridentv1.RebootManagement{Handling: handling}}))
}

const tridentReboots = tridentv1.RebootHandling_TRIDENT_HANDLES_REBOOT

func TestCommitStreamsTheOperationAfterTheReboot(t *testing.T) {
	f, id := rebooted(t, operationtest.NewMemory())
	f.resume(t)
	got := commitNamed(t, f, "a", tridentReboots)
	end := got.completed(t)
	if end.GetStatus() != tridentv1.StatusCode_STATUS_CODE_SUCCESS || end.GetServicingKind() != tridentv1.ServicingKind_SERVICING_KIND_AB_UPDATE {
		t.Errorf("completed %v", end)
	}
	if diff := cmp.Diff([]string{"started", "INFO record step: record", "completed"}, got.shape()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{id}, got.header.Get(wire.HeaderOperation)); diff != "" {
		t.Error(diff)
	}
	var waits uint64
	for e, err := range f.runner.Watch(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Waiting == operation.Reboot {
			waits = e.Sequence
		}
	}
	if diff := cmp.Diff([]string{strconv.FormatUint(waits, 10)}, got.header.Get(wire.HeaderAfter)); diff != "" || waits == 0 {
		t.Errorf("the header that says from where on: %s", diff)
	}
	f.host.there, f.host.idle = "", true // there is nothing to commit any more
	if again := commitNamed(t, f, "a", tridentReboots); !proto.Equal(end, again.completed(t)) {
		t.Errorf("the same request again: %v", again.completed(t))
	}
	if other := commitNamed(t, f, "b", tridentReboots).completed(t); other.GetServicingKind() != tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED {
		t.Errorf("another request: %v", other)
	}
}

func TestCommitReportsAnOperationThatWaitsForItsReboot(t *testing.T) {
	f, _ := rebooted(t, operationtest.NewMemory())
	f.runner.Life.Boot = "boot 1" // it has not been rebooted yet
	f.resume(t)
	if end := commitNamed(t, f, "a", tridentReboots).completed(t); end.GetRebootStatus() != tridentv1.RebootStatus_REBOOT_STARTED {
		t.Errorf("completed %v", end)
	}
}

func TestCommitOfARollbackRequiresAReboot(t *testing.T) {
	for handling, want := range map[tridentv1.RebootHandling]tridentv1.RebootStatus{
		tridentReboots: tridentv1.RebootStatus_REBOOT_STARTED, tridentv1.RebootHandling_CALLER_HANDLES_REBOOT: tridentv1.RebootStatus_REBOOT_REQUIRED,
	} {
		t.Run(handling.String(), func(t *testing.T) {
			journal := operationtest.NewMemory()
			f, id := rebooted(t, journal)
			f.host.record = errkind.WithName(errkind.Errorf(errkind.Unhealthy, "unit x is down"), "HealthChecksFailed")
			f.host.undo = operation.ErrReboot
			f.resume(t)
			got := commitNamed(t, f, "a", handling)
			end := got.completed(t)
			if end.GetStatus() != tridentv1.StatusCode_STATUS_CODE_SUCCESS || end.GetRebootStatus() != want || end.GetError() != nil {
				t.Errorf("completed %v", end)
			}
			wantLog := []string{"started", "INFO record step: record", "ERROR record record: unit x is down; undo: record", "WARN stage undo: stage", "completed"}
			if diff := cmp.Diff(wantLog, got.shape()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if err := f.runner.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}

			next := newFixtureIn(t, journal, "boot 3")
			next.host.there = id
			next.resume(t)
			end = commitNamed(t, next, "b", handling).completed(t)
			if end.GetStatus() != tridentv1.StatusCode_STATUS_CODE_FAILURE || end.GetError().GetSubkind() != "health-checks-failed" ||
				end.GetRebootStatus() != tridentv1.RebootStatus_REBOOT_NOT_REQUIRED {
				t.Errorf("after the boot that went back: completed %v", end)
			}
		})
	}
}
