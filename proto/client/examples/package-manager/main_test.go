package main

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	"github.com/trident-project/trident/proto/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func install(t *testing.T, ctx context.Context, config clienttest.Config) (string, error) {
	t.Helper()
	config.Version, config.NextVersion = "1.0.0", "2.0.0"
	host := clienttest.New(config)
	defer host.Close()
	var out bytes.Buffer
	err := run(ctx, []string{"/usr/share/trident/trident-2.0.0.raw"}, &out, client.WithDialer(host.Dial))
	return out.String(), err
}

func TestAPackageReplacesTrident(t *testing.T) {
	out, err := install(t, t.Context(), clienttest.Config{
		Operations: []*operationsv1.Operation{{Id: "old", Phase: operationsv1.Phase_PHASE_DONE}},
		Script: []*operationsv1.Event{
			clienttest.Step(0, "activate", nil), clienttest.Restart("restart"), clienttest.Step(operationsv1.Phase_PHASE_DONE, "settle", nil),
		},
	})
	if diff := cmp.Diff("waiting for a restart\n1.0.0 is replaced by 2.0.0\n", out); diff != "" || err != nil {
		t.Errorf("error %v, -want +got:\n%s", err, diff)
	}
}

func TestAHostWithTheVersionIsNotChanged(t *testing.T) {
	out, err := install(t, t.Context(), clienttest.Config{Refuse: grpckind.Error(errkind.Errorf(errkind.Exists, "2.0.0 is active"), nil)})
	if diff := cmp.Diff("1.0.0 stays: 2.0.0 is active\n", out); diff != "" || err != nil {
		t.Errorf("error %v, -want +got:\n%s", err, diff)
	}
}

func TestATransactionDoesNotWaitForEver(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	out, err := install(t, ctx, clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(0, "fetch", nil)}})
	if diff := cmp.Diff("operation op-1 goes on\n", out); diff != "" || err != nil {
		t.Errorf("error %v, -want +got:\n%s", err, diff)
	}
}

func TestAFailureFailsTheTransaction(t *testing.T) {
	failure := &operationsv1.Failure{Reason: "UNHEALTHY", Message: "it was thrown back"}
	_, err := install(t, t.Context(), clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(operationsv1.Phase_PHASE_UNDONE, "prove", failure)}})
	if client.Kind(err) != "UNHEALTHY" {
		t.Errorf("error %v", err)
	}
}
