package api

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/servicing"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
	"github.com/trident-project/trident/proto/wire"
)

type installServer struct {
	tridentv1preview.UnimplementedInstallServiceServer
	servicer
}

func (s *installServer) Install(req *tridentv1preview.InstallRequest, stream servicingStream) error {
	if err := needBoth(req.GetStage() != nil, req.GetFinalize() != nil); err != nil {
		return err
	}
	return s.install(stream, "stage.config", req.GetStage().GetConfig(), req.GetFinalize().GetReboot(), true)
}

func (s *installServer) InstallStage(req *tridentv1preview.StageInstallRequest, stream servicingStream) error {
	return s.install(stream, "config", req.GetConfig(), nil, false)
}

// install stages an installation, and also finalizes it if finalize is set.
func (s *installServer) install(stream servicingStream, field string, config *tridentv1.HostConfiguration, reboot *tridentv1.RebootManagement, finalize bool) error {
	multiboot, err := multibootFromWire(stream.Context())
	if err != nil {
		return err
	}
	return s.run(stream, reboot, func(ctx context.Context, callerReboots bool) (string, error) {
		parsed, err := s.config(ctx, field, config)
		if err != nil {
			return "", err
		}
		return s.host.Install(ctx, servicing.InstallRequest{
			Config: parsed, Stage: true, Finalize: finalize, CallerReboots: callerReboots, Multiboot: multiboot,
		})
	})
}

// InstallFinalize uses the staged configuration.
func (s *installServer) InstallFinalize(req *tridentv1preview.FinalizeInstallRequest, stream servicingStream) error {
	return s.run(stream, req.GetReboot(), s.host.FinalizeInstall)
}

func multibootFromWire(ctx context.Context) (bool, error) {
	switch given := metadata.ValueFromIncomingContext(ctx, wire.HeaderMultiboot); {
	case len(given) == 0:
		return false, nil
	case len(given) == 1 && (given[0] == "true" || given[0] == "false"):
		return given[0] == "true", nil
	}
	return false, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %s must be there once, as true or false", wire.HeaderMultiboot), wire.HeaderMultiboot)
}
