package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/errkind"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
)

type handleServer struct {
	handlesv1.UnimplementedHandleServiceServer
	handles *handleTable
}

// OpenImage takes an image whole before it gives a handle.
func (s *handleServer) OpenImage(stream grpc.ClientStreamingServer[handlesv1.OpenImageRequest, handlesv1.OpenImageResponse]) error {
	start, err := firstOf(stream, (*handlesv1.OpenImageRequest).GetStart)
	if err != nil {
		return err
	}
	open, err := imageFromWire(start)
	if err != nil {
		return err
	}
	open.receive = chunksOf(stream, (*handlesv1.OpenImageRequest).GetStart, (*handlesv1.OpenImageRequest).GetChunk)
	id, h, err := s.handles.openImage(stream.Context(), open)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&handlesv1.OpenImageResponse{ImageHandle: id, Size: h.size, Sha384: h.sha384})
}

// OpenConfig takes the text of a Host Configuration.
func (s *handleServer) OpenConfig(stream grpc.ClientStreamingServer[handlesv1.OpenConfigRequest, handlesv1.OpenConfigResponse]) error {
	start, err := firstOf(stream, (*handlesv1.OpenConfigRequest).GetStart)
	if err != nil {
		return err
	}
	if err := checkSum("start.sha384", start.GetSha384()); err != nil {
		return err
	}
	receive := chunksOf(stream, (*handlesv1.OpenConfigRequest).GetStart, (*handlesv1.OpenConfigRequest).GetChunk)
	id, err := s.handles.openConfig(stream.Context(), start.GetSize(), start.GetSha384(), receive)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&handlesv1.OpenConfigResponse{ConfigHandle: id})
}

func (s *handleServer) Close(ctx context.Context, req *handlesv1.CloseRequest) (*handlesv1.CloseResponse, error) {
	if err := s.handles.close(ctx, req.GetHandle()); err != nil {
		return nil, errkind.WithField(err, "handle")
	}
	return &handlesv1.CloseResponse{}, nil
}

// receiver is the half of a stream that an upload needs.
type receiver[Req any] interface {
	Recv() (*Req, error)
}

// firstOf reads the first message of a stream, which must be start.
func firstOf[Req any, S comparable](stream receiver[Req], startOf func(*Req) S) (start S, err error) {
	var none S
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return none, err
	}
	if start = startOf(first); start == none {
		return none, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: the first message must be start"), "start")
	}
	return start, nil
}

// chunksOf receives what comes after start.
func chunksOf[Req any, S comparable](stream receiver[Req], startOf func(*Req) S, chunkOf func(*Req) []byte) func() ([]byte, error) {
	var none S
	return func() ([]byte, error) {
		req, err := stream.Recv()
		if err == nil && startOf(req) != none {
			err = errkind.Errorf(errkind.Invalid, "a second start: only chunks may follow the first message")
		}
		return chunkOf(req), err
	}
}
