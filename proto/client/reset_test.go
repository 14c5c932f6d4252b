package client_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func TestAResetIsFollowedOverALostStream(t *testing.T) {
	t.Parallel()
	h := dial(t, clienttest.New(clienttest.Config{
		Script: updateScript(), Drop: 2, LoseAnswers: 1, ResetPlan: &machinev1.PlanResetResponse{Text: "all of it", Confirmation: "token"},
	})).Host()
	plan, err := h.PlanReset(t.Context())
	if err != nil || plan.GetText() != "all of it" {
		t.Fatalf("plan %v, %v", plan, err)
	}
	var seen watcher
	op, err := h.Reset(t.Context(), plan.GetConfirmation(), seen.event)
	if err != nil || op.GetKind() != "reset" || op.GetPhase() != done {
		t.Errorf("operation %v, %v", op, err)
	}
	if diff := cmp.Diff(numbers(1, 4), seen); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if op, err := h.Reset(t.Context(), "another", seen.event); client.Kind(err) != client.KindPrecondition || op != nil {
		t.Errorf("an outdated confirmation: %v, %v", op, err)
	}
}
