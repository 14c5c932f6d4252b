package api

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/servicing"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

const faulty = "os:\n  netplan:\n    version: 2\n  hostnane: x\nimage: 7\n"

func TestAConfigurationIsValidatedByTextAndByHandle(t *testing.T) {
	f := newFixture(t)
	client := hostv1.NewHostServiceClient(f.conn)
	byText, err := client.ValidateConfig(t.Context(), &hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_Text{Text: faulty}})
	if err != nil {
		t.Fatal(err)
	}
	if byText.GetValid() || len(byText.GetFindings()) < 2 {
		t.Errorf("findings %v", byText)
	}
	first := byText.GetFindings()[0]
	if first.GetLine() != 4 || first.GetColumn() != 3 || first.GetPath() != "os.hostnane" || first.GetSeverity() != hostv1.Severity_SEVERITY_ERROR ||
		first.GetName() != "ParseHostConfiguration" || first.GetMessage() == "" {
		t.Errorf("the first finding is %v", first)
	}
	id := openConfig(t, f.conn, faulty)
	for range 2 { // one handle serves many calls
		byHandle, err := client.ValidateConfig(t.Context(), &hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_ConfigHandle{ConfigHandle: id}})
		if diff := cmp.Diff(byText, byHandle, protocmp.Transform()); diff != "" || err != nil {
			t.Errorf("%v (-text +handle):\n%s", err, diff)
		}
	}
	image := openImage(t, f.conn, sysext, "x").GetImageHandle()
	for name, c := range map[string]struct {
		req  *hostv1.ValidateConfigRequest
		code codes.Code
	}{
		"nothing":         {&hostv1.ValidateConfigRequest{}, codes.InvalidArgument},
		"a handle of 0":   {&hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_ConfigHandle{}}, codes.InvalidArgument},
		"an image":        {&hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_ConfigHandle{ConfigHandle: image}}, codes.InvalidArgument},
		"no handle of us": {&hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_ConfigHandle{ConfigHandle: 1 << 60}}, codes.NotFound},
	} {
		if _, err := client.ValidateConfig(t.Context(), c.req); status.Code(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	fine, err := client.ValidateConfig(t.Context(), &hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_Text{Text: specOne}})
	if err != nil || !fine.GetValid() {
		t.Errorf("a sound one: %v, %v", fine, err)
	}
}

func TestAPlanHasKindReasonsAndActions(t *testing.T) {
	f := newFixture(t)
	f.record(t, hoststate.Status{Phase: hoststate.Settled{}, Spec: specTwo})
	f.host.plan = servicing.Plan{
		Kind:    servicing.RuntimeUpdate,
		Reasons: []diff.Reason{{Path: "os.sysexts[0]", Text: "is new", Kind: diff.KindRuntimeUpdate}},
		Steps: []servicing.PlannedStep{
			{Name: "files", Effects: []servicing.Effect{{Kind: "write-file", Object: "/etc/a", Text: "write /etc/a"}}},
			{Name: "network", Effects: []servicing.Effect{{Kind: "apply-netplan", Text: "write the network configuration and apply it"}}},
		},
		Warnings: []string{"it is late"},
	}
	got, err := hostv1.NewHostServiceClient(f.conn).PlanUpdate(t.Context(), &hostv1.PlanUpdateRequest{
		Config: &hostv1.PlanUpdateRequest_ConfigHandle{ConfigHandle: openConfig(t, f.conn, specOne)},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := &hostv1.Action{Kind: "write-file", Object: "/etc/a", Message: "write /etc/a"}
	network := &hostv1.Action{Kind: "apply-netplan", Message: "write the network configuration and apply it"}
	const runtime = tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE
	want := &hostv1.PlanUpdateResponse{
		Kind:            runtime,
		Reasons:         []*hostv1.Reason{{Path: "os.sysexts[0]", Kind: runtime, Message: "is new"}},
		Actions:         []*hostv1.Action{file, network},
		Steps:           []*hostv1.PlannedStep{{Name: "files", Actions: []*hostv1.Action{file}}, {Name: "network", Actions: []*hostv1.Action{network}}},
		Warnings:        []*hostv1.Finding{{Severity: hostv1.Severity_SEVERITY_WARNING, Message: "it is late"}},
		Text:            f.host.plan.String(),
		EffectiveConfig: got.GetEffectiveConfig(),
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || !strings.Contains(got.GetEffectiveConfig(), "one.raw") {
		t.Errorf("-want +got:\n%s", diff)
	}
	_, err = hostv1.NewHostServiceClient(f.conn).PlanUpdate(t.Context(), &hostv1.PlanUpdateRequest{Config: &hostv1.PlanUpdateRequest_Text{Text: faulty}})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "os.hostnane") {
		t.Errorf("a faulty one: %v", err)
	}
}

func TestUpstreamsValidation(t *testing.T) {
	f := newFixture(t)
	client := tridentv1preview.NewValidationServiceClient(f.conn)
	validate := func(c *tridentv1.HostConfiguration) (*tridentv1preview.ValidateHostConfigurationResponse, error) {
		return client.ValidateHostConfiguration(t.Context(), &tridentv1preview.ValidateHostConfigurationRequest{Config: c})
	}
	if got, err := validate(configOf(specOne)); err != nil || !got.GetOk() || got.GetError() != nil {
		t.Errorf("a sound one: %v, %v", got, err)
	}
	got, err := validate(configOf(faulty))
	if err != nil || got.GetOk() || got.GetError().GetKind() != tridentv1.TridentErrorKind_INVALID_INPUT_ERROR || got.GetError().GetSubkind() != "parse-host-configuration" {
		t.Errorf("a faulty one: %v, %v", got, err)
	}
	if _, err := validate(nil); status.Code(err) != codes.InvalidArgument {
		t.Errorf("none: %v", err)
	}
}

func TestValidationReportsTheRequiredServicing(t *testing.T) {
	f := newFixture(t)
	client := tridentv1preview.NewValidationServiceClient(f.conn)
	ask := func(ctx context.Context, c *tridentv1.HostConfiguration) (tridentv1preview.ServicingType, error) {
		resp, err := client.GetRequiredServicingType(ctx, &tridentv1preview.GetRequiredServicingTypeRequest{Config: c})
		return resp.GetServicingType(), err
	}
	for kind, want := range map[servicing.Kind]tridentv1preview.ServicingType{
		servicing.None:          tridentv1preview.ServicingType_NO_ACTIVE_SERVICING,
		servicing.RuntimeUpdate: tridentv1preview.ServicingType_RUNTIME_UPDATE,
		servicing.ABUpdate:      tridentv1preview.ServicingType_AB_UPDATE,
		servicing.CleanInstall:  tridentv1preview.ServicingType_CLEAN_INSTALL,
	} {
		f.host.plan.Kind = kind
		if got, err := ask(t.Context(), configOf(specOne)); got != want || err != nil {
			t.Errorf("%s is %s, %v", kind, got, err)
		}
	}
	if _, err := ask(t.Context(), configOf(faulty)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a faulty one: %v", err)
	}
	if _, err := ask(t.Context(), nil); status.Code(err) != codes.InvalidArgument {
		t.Errorf("none: %v", err)
	}
	f.host.refuse = errkind.Errorf(errkind.Corrupt, "x")
	if _, err := ask(t.Context(), configOf(specOne)); status.Code(err) != codes.DataLoss {
		t.Errorf("a plan that fails: %v", err)
	}
}
