package control

import (
	"context"

	"github.com/trident-project/trident/internal/machine/power"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type powerServer struct {
	machinev1.UnimplementedPowerServiceServer
	power *power.Service
}

func (s *powerServer) Reboot(ctx context.Context, req *machinev1.RebootRequest) (*machinev1.RebootResponse, error) {
	return &machinev1.RebootResponse{}, s.power.Reboot(ctx, req.GetIgnoreInhibitors())
}

func (s *powerServer) Shutdown(ctx context.Context, req *machinev1.ShutdownRequest) (*machinev1.ShutdownResponse, error) {
	return &machinev1.ShutdownResponse{}, s.power.PowerOff(ctx, req.GetIgnoreInhibitors())
}
