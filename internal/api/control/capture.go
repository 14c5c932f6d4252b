package control

import (
	"context"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/machine/capture"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type captureServer struct {
	machinev1.UnimplementedCaptureServiceServer
	capture *capture.Service
	caller  func(context.Context) int32
}

func (s *captureServer) Capture(req *machinev1.CaptureRequest, stream grpc.ServerStreamingServer[machinev1.CaptureResponse]) error {
	q := capture.Query{
		Interface: req.GetInterface(), Promiscuous: req.GetPromiscuous(), SnapLength: req.GetSnapLength(), MaxBytes: req.GetMaxBytes(), MaxTime: req.GetMaxTime().AsDuration(),
		Caller: int(s.caller(stream.Context())),
	}
	for _, in := range req.GetFilter() {
		q.Filter = append(q.Filter, capture.Instruction{Op: in.GetOp(), Jt: in.GetJt(), Jf: in.GetJf(), K: in.GetK()})
	}
	dropped, err := s.capture.Run(stream.Context(), q, func(data []byte) error {
		return stream.Send(&machinev1.CaptureResponse{Data: data})
	})
	if err == nil {
		err = stream.Send(&machinev1.CaptureResponse{Dropped: dropped})
	}
	return err
}
