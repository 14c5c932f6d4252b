package api

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/handles"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
)

type handleServer struct {
	handlesv1.UnimplementedHandleServiceServer
	handles *handles.Table
}

// OpenImage receives all of an image before it returns a handle.
func (s *handleServer) OpenImage(stream grpc.ClientStreamingServer[handlesv1.OpenImageRequest, handlesv1.OpenImageResponse]) error {
	start, err := firstOf(stream, (*handlesv1.OpenImageRequest).GetStart)
	if err != nil {
		return err
	}
	kind, from, err := imageFromWire(start)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	if from.UploadSize > 0 {
		from.Upload = newUpload(ctx, from.UploadSize, chunksOf(stream, (*handlesv1.OpenImageRequest).GetStart, (*handlesv1.OpenImageRequest).GetChunk)).next
	}
	image, err := s.handles.OpenImage(ctx, ownerOf(ctx), kind, from, start.GetSha384())
	if err != nil {
		return err
	}
	return stream.SendAndClose(&handlesv1.OpenImageResponse{ImageHandle: image.Handle, Size: image.Size, Sha384: image.SHA384})
}

// OpenConfig receives the text of a Host Configuration.
func (s *handleServer) OpenConfig(stream grpc.ClientStreamingServer[handlesv1.OpenConfigRequest, handlesv1.OpenConfigResponse]) error {
	start, err := firstOf(stream, (*handlesv1.OpenConfigRequest).GetStart)
	if err != nil {
		return err
	}
	size := start.GetSize()
	if size <= 0 || size > handles.MaxConfig {
		err := errkind.Errorf(errkind.Invalid, "read the request: a Host Configuration of %d bytes; it must have from 1 to %d", size, handles.MaxConfig)
		return errkind.WithField(err, "start.size")
	}
	if err := checkSum("start.sha384", start.GetSha384()); err != nil {
		return err
	}
	receive := chunksOf(stream, (*handlesv1.OpenConfigRequest).GetStart, (*handlesv1.OpenConfigRequest).GetChunk)
	ctx := stream.Context()
	id, err := s.handles.OpenConfig(ctx, ownerOf(ctx), size, start.GetSha384(), newUpload(ctx, size, receive).next)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&handlesv1.OpenConfigResponse{ConfigHandle: id})
}

func (s *handleServer) Close(ctx context.Context, req *handlesv1.CloseRequest) (*handlesv1.CloseResponse, error) {
	if err := s.handles.Close(ownerOf(ctx), req.GetHandle()); err != nil {
		return nil, errkind.WithField(err, "handle")
	}
	return &handlesv1.CloseResponse{}, nil
}

func imageFromWire(start *handlesv1.OpenImageRequest_Start) (handles.Kind, fetch.Source, error) {
	from := fetch.Source{URL: start.GetUrl(), Path: start.GetPath(), UploadSize: start.GetSize()}
	invalid := func(field, format string, args ...any) (handles.Kind, fetch.Source, error) {
		return "", from, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: "+format, args...), "start."+field)
	}
	switch start.GetFrom().(type) {
	case nil:
		return invalid("from", "it does not say where the image comes from (a url, a path or an upload)")
	case *handlesv1.OpenImageRequest_Start_Url:
		if scheme := fetch.Scheme(from.URL); scheme != "http" && scheme != "https" {
			return invalid("url", "it is not a URL of http or https")
		}
	case *handlesv1.OpenImageRequest_Start_Path:
		if !filepath.IsAbs(from.Path) {
			return invalid("path", "the path %.200q is not absolute", from.Path)
		}
	case *handlesv1.OpenImageRequest_Start_Size:
		if from.UploadSize <= 0 || from.UploadSize > handles.MaxImage {
			return invalid("size", "an upload of %d bytes; it must have from 1 to %d", from.UploadSize, int64(handles.MaxImage))
		}
	}
	kind := imageKind(start.GetKind())
	if kind == "" {
		return invalid("kind", "%s is not a kind of image", start.GetKind())
	}
	return kind, from, checkSum("start.sha384", start.GetSha384())
}

// imageKind converts a kind of image; "" if the kind is unknown.
func imageKind(k handlesv1.ImageKind) handles.Kind {
	switch k {
	case handlesv1.ImageKind_IMAGE_KIND_SYSEXT:
		return handles.Sysext
	case handlesv1.ImageKind_IMAGE_KIND_CONFEXT:
		return handles.Confext
	case handlesv1.ImageKind_IMAGE_KIND_TRIDENT:
		return handles.Trident
	case handlesv1.ImageKind_IMAGE_KIND_COSI_METADATA:
		return handles.COSIMetadata
	}
	return ""
}

func checkSum(field, sum string) error {
	if raw, err := hex.DecodeString(sum); sum != "" && (err != nil || len(raw) != sha512.Size384) {
		return errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: sha384 is %.120q, which is not 96 hexadecimal digits", sum), field)
	}
	return nil
}

// receiver is the part of a stream that an upload needs.
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

// chunksOf returns a function that receives the chunks after start.
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
