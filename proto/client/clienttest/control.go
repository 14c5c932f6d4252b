package clienttest

import (
	"google.golang.org/grpc"

	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// Control has services of trident.machine.v1.
type Control struct {
	Units   machinev1.UnitServiceServer
	Logs    machinev1.LogServiceServer
	Files   machinev1.FileServiceServer
	Capture machinev1.CaptureServiceServer
	Power   machinev1.PowerServiceServer
	Mounts  machinev1.MountServiceServer
}

func (s *Server) registerControl(g *grpc.Server) {
	c := s.config.Control
	if c.Units == nil {
		c.Units = machinev1.UnimplementedUnitServiceServer{}
	}
	if c.Logs == nil {
		c.Logs = machinev1.UnimplementedLogServiceServer{}
	}
	if c.Files == nil {
		c.Files = machinev1.UnimplementedFileServiceServer{}
	}
	if c.Capture == nil {
		c.Capture = machinev1.UnimplementedCaptureServiceServer{}
	}
	if c.Power == nil {
		c.Power = machinev1.UnimplementedPowerServiceServer{}
	}
	if c.Mounts == nil {
		c.Mounts = machinev1.UnimplementedMountServiceServer{}
	}
	machinev1.RegisterUnitServiceServer(g, c.Units)
	machinev1.RegisterLogServiceServer(g, c.Logs)
	machinev1.RegisterFileServiceServer(g, c.Files)
	machinev1.RegisterCaptureServiceServer(g, c.Capture)
	machinev1.RegisterPowerServiceServer(g, c.Power)
	machinev1.RegisterMountServiceServer(g, c.Mounts)
}
