package api

import (
	"context"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

type validationServer struct {
	tridentv1preview.UnimplementedValidationServiceServer
	host   Servicing
	parser *parser
}

// ValidateHostConfiguration looks at the text alone: that it is wrong is an
// answer.
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
	change, _, err := s.host.Plan(ctx, config)
	if err != nil {
		return nil, err
	}
	return &tridentv1preview.GetRequiredServicingTypeResponse{ServicingType: typeToWire(change.Kind)}, nil
}

func typeToWire(k hostconfig.Kind) tridentv1preview.ServicingType {
	switch k {
	case hostconfig.KindNone:
		return tridentv1preview.ServicingType_NO_ACTIVE_SERVICING
	case hostconfig.KindRuntimeUpdate:
		return tridentv1preview.ServicingType_RUNTIME_UPDATE
	case hostconfig.KindABUpdate:
		return tridentv1preview.ServicingType_AB_UPDATE
	case hostconfig.KindCleanInstall:
		return tridentv1preview.ServicingType_CLEAN_INSTALL
	}
	return tridentv1preview.ServicingType_SERVICING_TYPE_UNSPECIFIED
}
