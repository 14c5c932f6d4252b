package api

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

func TestARefusedRebootFailsItsStream(t *testing.T) {
	f := newFixture(t)
	f.host.outcome = servicing.Outcome{Kind: servicing.ABUpdate}
	f.host.step = func(context.Context, *operation.Run[struct{}]) error {
		return operation.RequestReboot(func(context.Context) error {
			return errkind.WithName(errkind.Errorf(errkind.Unavailable, "no reboot today"), "Reboot")
		})
	}
	end := read1(tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), updateOf("{}"))).completed(t)
	if end.GetStatus() != tridentv1.StatusCode_STATUS_CODE_FAILURE || end.GetError().GetSubkind() != "reboot" {
		t.Errorf("completed %v", end)
	}
}

func TestAStreamOfADaemonThatStopsBeforeItRequestsTheRebootEndsWithReattach(t *testing.T) {
	f := newFixture(t)
	asking := make(chan struct{})
	f.host.step = func(context.Context, *operation.Run[struct{}]) error {
		return operation.RequestReboot(func(ctx context.Context) error {
			close(asking)
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}
	ended := make(chan servicingCall, 1)
	go func() {
		ended <- read1(tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), updateOf("{}")))
	}()
	<-asking
	if err := f.runner.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-ended; status.Code(got.err) != codes.Unavailable {
		t.Errorf("%v", got.err)
	}
}
