package api

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/handles"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
)

type hostServer struct {
	hostv1.UnimplementedHostServiceServer
	host    planner
	keeper  keeper
	store   *hoststate.Store
	runner  *operation.Runner
	handles *handles.Table
	parser  *parser
}

func (s *hostServer) ValidateConfig(ctx context.Context, req *hostv1.ValidateConfigRequest) (*hostv1.ValidateConfigResponse, error) {
	text, _, err := s.configText(ctx, req)
	if err != nil {
		return nil, err
	}
	_, report, err := s.parser.parse(ctx, text)
	if err != nil {
		return nil, err
	}
	return &hostv1.ValidateConfigResponse{Valid: report.Err() == nil, Findings: findingsToWire(report)}, nil
}

func (s *hostServer) PlanUpdate(ctx context.Context, req *hostv1.PlanUpdateRequest) (*hostv1.PlanUpdateResponse, error) {
	config, report, err := s.parsed(ctx, req)
	if err != nil {
		return nil, err
	}
	plan, err := s.host.Plan(ctx, config)
	if err != nil {
		return nil, err
	}
	return planToWire(plan, report), nil
}

func (s *hostServer) PlanInstall(ctx context.Context, req *hostv1.PlanInstallRequest) (*hostv1.PlanInstallResponse, error) {
	config, report, err := s.parsed(ctx, req)
	if err != nil {
		return nil, err
	}
	plan, err := s.host.PlanInstall(ctx, config)
	if err != nil {
		return nil, err
	}
	return &hostv1.PlanInstallResponse{
		Text: textToWire(plan.String()), Storage: storageToWire(plan.Storage), Warnings: warningsToWire(plan, report), Steps: mapSlice(plan.Steps, plannedStepToWire),
	}, nil
}

func (s *hostServer) PlanRebuild(ctx context.Context, _ *hostv1.PlanRebuildRequest) (*hostv1.PlanRebuildResponse, error) {
	plan, err := s.host.PlanRebuild(ctx)
	if err != nil {
		return nil, err
	}
	out := &hostv1.PlanRebuildResponse{
		Text: "All arrays are whole: there is nothing to rebuild.\n", Disks: storageToWire(plan.Storage).GetDisks(),
		Steps: mapSlice(plan.Steps, plannedStepToWire), Warnings: warningsToWire(plan, nil),
	}
	if len(plan.Steps) > 0 {
		out.Text = textToWire(plan.String())
	}
	return out, nil
}

func (s *hostServer) GetRecoveryKey(ctx context.Context, req *hostv1.GetRecoveryKeyRequest) (*hostv1.GetRecoveryKeyResponse, error) {
	id, key, err := s.keeper.RecoveryKey(ctx, req.GetOperationId())
	if err != nil {
		return nil, errkind.WithField(err, "operation_id")
	}
	return &hostv1.GetRecoveryKeyResponse{OperationId: id, Key: key}, nil
}

// parsed returns the configuration of a request, and fails if it has faults.
func (s *hostServer) parsed(ctx context.Context, req withConfig) (*hostconfig.Config, hostconfig.Report, error) {
	text, field, err := s.configText(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	config, report, err := s.parser.parse(ctx, text)
	if err != nil {
		return nil, nil, err
	}
	return config, report, errkind.WithField(report.Err(), field)
}

// GetHost also answers if the datastore cannot be read: the answer then says so.
func (s *hostServer) GetHost(ctx context.Context, _ *hostv1.GetHostRequest) (*hostv1.GetHostResponse, error) {
	out, err := s.recorded(ctx)
	if err != nil {
		return nil, err
	}
	carried, err := s.keeper.CarriedExtensions(ctx)
	if kind := errkind.Of(err); err != nil && kind != errkind.Corrupt && kind != errkind.Invalid { // else out.Datastore says it
		return nil, err
	}
	out.Extensions = append(out.Extensions, mapSlice(carried, carriedToWire)...)
	if id, ok := s.runner.Active(); ok {
		op, err := s.runner.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		out.Operation = operationToWire(op)
	}
	return out, nil
}

// recorded returns the recorded status of the host, and the health of the datastore.
func (s *hostServer) recorded(ctx context.Context) (*hostv1.GetHostResponse, error) {
	status, err := s.store.Status(ctx)
	unreadable, isUnreadable := errors.AsType[*hoststate.ParseHostStatusError](err)
	if err != nil && !isUnreadable {
		return nil, err
	}
	var chain []hoststate.Link
	if !isUnreadable {
		if chain, err = s.store.Chain(ctx); err != nil {
			return nil, err
		}
	} else if unreadable.Previous != nil {
		status = *unreadable.Previous
	}
	damaged, err := s.store.Damaged()
	if err != nil {
		return nil, err
	}
	out := hostToWire(status, chain)
	if !isUnreadable {
		out.HostStatus = documentOf(status)
	}
	out.Datastore = healthToWire(status, unreadable, damaged)
	return out, nil
}

// documentOf returns a recorded status in upstream's form; "" if there is none, or if it
// is too large for a message with the other fields.
func documentOf(s hoststate.Status) string {
	if s.Row == 0 {
		return ""
	}
	for _, spec := range []*string{&s.Spec, &s.SpecOld} {
		if *spec != "" { // old documents in the current form, with upstream's defaults
			*spec = specToText(*spec)
		}
	}
	text, err := s.YAML()
	if err != nil || len(text) > maxAnswer/4 {
		return ""
	}
	return strings.ToValidUTF8(string(text), "?")
}

// withConfig is a request with a oneof named config: a text or a handle.
type withConfig interface {
	proto.Message
	GetText() string
	GetConfigHandle() int64
}

// configText returns the text, and the name of the field that has it.
func (s *hostServer) configText(ctx context.Context, req withConfig) (text []byte, field string, err error) {
	m := req.ProtoReflect()
	chosen := m.WhichOneof(m.Descriptor().Oneofs().ByName("config"))
	switch {
	case chosen == nil:
		return nil, "", missing("config", "a Host Configuration")
	case chosen.Name() == "text":
		return []byte(req.GetText()), "text", nil
	}
	text, err = s.handles.Config(ownerOf(ctx), req.GetConfigHandle())
	return text, string(chosen.Name()), errkind.WithField(err, string(chosen.Name()))
}
