package api

import (
	"context"

	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

type validationServer struct {
	tridentv1preview.UnimplementedValidationServiceServer
	host   planner
	parser *parser
}

// ValidateHostConfiguration checks the text alone. A fault of the text is an answer, not
// an error.
func (s *validationServer) ValidateHostConfiguration(ctx context.Context, req *tridentv1preview.ValidateHostConfigurationRequest) (*tridentv1preview.ValidateHostConfigurationResponse, error) {
	if req.GetConfig() == nil {
		return nil, missing("config", "a Host Configuration")
	}
	_, report, err := s.parser.parse(ctx, []byte(req.GetConfig().GetConfig()))
	if err != nil {
		return nil, err
	}
	err = report.Err()
	return &tridentv1preview.ValidateHostConfigurationResponse{Ok: err == nil, Error: errorToWire(err)}, nil
}

func (s *validationServer) GetRequiredServicingType(ctx context.Context, req *tridentv1preview.GetRequiredServicingTypeRequest) (*tridentv1preview.GetRequiredServicingTypeResponse, error) {
	if req.GetConfig() == nil {
		return nil, missing("config", "a Host Configuration")
	}
	config, report, err := s.parser.parse(ctx, []byte(req.GetConfig().GetConfig()))
	if err != nil {
		return nil, err
	}
	if err := report.Err(); err != nil {
		return nil, err
	}
	kind, err := s.host.RequiredKind(ctx, config)
	if err != nil {
		return nil, err
	}
	return &tridentv1preview.GetRequiredServicingTypeResponse{ServicingType: typeToWire(kind)}, nil
}

func typeToWire(k servicing.Kind) tridentv1preview.ServicingType {
	switch k {
	case servicing.None:
		return tridentv1preview.ServicingType_NO_ACTIVE_SERVICING
	case servicing.RuntimeUpdate:
		return tridentv1preview.ServicingType_RUNTIME_UPDATE
	case servicing.ABUpdate:
		return tridentv1preview.ServicingType_AB_UPDATE
	case servicing.CleanInstall:
		return tridentv1preview.ServicingType_CLEAN_INSTALL
	}
	return tridentv1preview.ServicingType_SERVICING_TYPE_UNSPECIFIED
}
