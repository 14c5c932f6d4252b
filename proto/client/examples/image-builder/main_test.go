package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

func bake(t *testing.T, config clienttest.Config) (out string, err error) {
	t.Helper()
	host := clienttest.New(config)
	defer host.Close()
	dir := t.TempDir()
	yaml, image := filepath.Join(dir, "host.yaml"), filepath.Join(dir, "trident.raw")
	for _, name := range []string{yaml, image} {
		if err := os.WriteFile(name, []byte("os: {}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var text bytes.Buffer
	err = run(t.Context(), []string{"-trident", image, yaml}, &text, client.WithDialer(host.Dial))
	return strings.ReplaceAll(text.String(), dir+"/", ""), err
}

func TestAGoodImageIsAccepted(t *testing.T) {
	out, err := bake(t, clienttest.Config{
		Plan: &hostv1.PlanUpdateResponse{
			Kind:    tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE,
			Actions: []*hostv1.Action{{Message: "add the extension gadget"}},
		},
		Script: []*operationsv1.Event{
			clienttest.Log("verify", operationsv1.Severity_SEVERITY_INFO, "signed by somebody"),
			clienttest.Step(operationsv1.Phase_PHASE_DONE, "probe", nil),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "host.yaml: SERVICING_KIND_RUNTIME_UPDATE\n  add the extension gadget\nverify: signed by somebody\ntrident.raw: good\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAllFaultsAreShownAtTheirPlaces(t *testing.T) {
	out, err := bake(t, clienttest.Config{Findings: []*hostv1.Finding{
		{Severity: hostv1.Severity_SEVERITY_ERROR, Line: 1, Column: 5, Name: "DuplicateUsernames", Message: "two users are called root"},
		{Severity: hostv1.Severity_SEVERITY_WARNING, Line: 7, Column: 1, Name: "Old", Message: "an old form"},
	}})
	want := "host.yaml:1:5: DuplicateUsernames: two users are called root\nhost.yaml:7:1: Old: an old form\n"
	if diff := cmp.Diff(want, out); diff != "" || !errors.Is(err, errFaults) {
		t.Errorf("error %v, -want +got:\n%s", err, diff)
	}
}

func TestAnImageThatNobodySignedIsNotShipped(t *testing.T) {
	failure := &operationsv1.Failure{Reason: "UNTRUSTED", Message: "it is not signed"}
	_, err := bake(t, clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(operationsv1.Phase_PHASE_UNDONE, "verify", failure)}})
	if client.Kind(err) != "UNTRUSTED" || !strings.Contains(err.Error(), "must not be shipped") {
		t.Errorf("error %v", err)
	}
}
