package control

import (
	"context"
	"slices"

	"github.com/trident-project/trident/internal/machine/units"
	"github.com/trident-project/trident/internal/systemd"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type unitServer struct {
	machinev1.UnimplementedUnitServiceServer
	units *units.Service
}

func (s *unitServer) ListUnits(ctx context.Context, req *machinev1.ListUnitsRequest) (*machinev1.ListUnitsResponse, error) {
	list, omitted, err := s.units.List(ctx, req.GetPatterns(), req.GetStates())
	if err != nil {
		return nil, err
	}
	out := &machinev1.ListUnitsResponse{Omitted: int32(omitted)}
	for _, u := range list {
		out.Units = append(out.Units, unitToWire(u))
	}
	return out, nil
}

func (s *unitServer) ShowUnit(ctx context.Context, req *machinev1.ShowUnitRequest) (*machinev1.ShowUnitResponse, error) {
	d, protected, err := s.units.Show(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	out := &machinev1.ShowUnitResponse{
		Unit: unitToWire(d.Listed), Names: slices.Clone(d.Names), FragmentPath: text(d.FragmentPath), UnitFileState: text(d.FileState), Result: text(d.State.Result),
		Restarts: d.State.Restarts, MainPid: d.State.MainPID, InvocationId: d.State.Invocation, StateChangeTime: stamp(d.Changed), Protected: errorText(protected),
	}
	if d.HasMemory {
		out.MemoryBytes = &d.Memory
	}
	return out, nil
}

func (s *unitServer) StartUnit(ctx context.Context, req *machinev1.StartUnitRequest) (*machinev1.StartUnitResponse, error) {
	return &machinev1.StartUnitResponse{}, s.units.Run(ctx, systemd.StartJob, req.GetName(), false)
}

func (s *unitServer) StopUnit(ctx context.Context, req *machinev1.StopUnitRequest) (*machinev1.StopUnitResponse, error) {
	return &machinev1.StopUnitResponse{}, s.units.Run(ctx, systemd.StopJob, req.GetName(), req.GetAllowDisconnect())
}

func (s *unitServer) RestartUnit(ctx context.Context, req *machinev1.RestartUnitRequest) (*machinev1.RestartUnitResponse, error) {
	return &machinev1.RestartUnitResponse{}, s.units.Run(ctx, systemd.RestartJob, req.GetName(), req.GetAllowDisconnect())
}

func unitToWire(u systemd.Listed) *machinev1.Unit {
	return &machinev1.Unit{Name: text(u.Name), Description: text(u.Description), LoadState: text(u.Load), ActiveState: text(u.Active), SubState: text(u.Sub)}
}
