package jsonrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/envelope"
	"github.com/trident-project/trident/internal/gateway/rights"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
)

const (
	// PathUpload is where a caller sends the bytes of an image.
	PathUpload = "/upload"
	// maxUpload is the largest image that tridentd takes, in bytes.
	maxUpload    = 2 << 30
	uploadMethod = "/trident.handles.v1.HandleService/OpenImage"
	// chunkSize is how many bytes the gateway holds of an upload. Each chunk has to arrive
	// within ioTime.
	chunkSize = 256 << 10
)

// serveUpload receives an image and answers with the ID that self.upgrade takes. The right, the
// limits and the line of the audit log are those of the method of the API that receives an
// image.
func (c *conn) serveUpload(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		failUpload(w, http.StatusMethodNotAllowed, errkind.Errorf(errkind.Invalid, "upload: send a POST"))
		return
	}
	if err := c.gate.Login(r.Context(), r.Header.Values("Authorization")); err != nil {
		failUpload(w, refuseLogin(w, err), err)
		return
	}
	var id string
	// The size is checked after the right, so that the audit log has the attempt.
	code := 0
	err := c.gate.Do(r.Context(), Action{"upload", uploadMethod, rights.Operate}, func(ctx context.Context) (err error) {
		if code, err = checkLength(r.ContentLength); err == nil {
			id, err = c.receive(ctx, w, r)
		}
		return err
	})
	if err != nil {
		failUpload(w, code, err)
		return
	}
	answer, _ := json.Marshal(map[string]string{"id": id}) // of texts
	write(w, answer)
}

// checkLength returns an error, and the status of HTTP for it, if a body may not have n bytes.
func checkLength(n int64) (int, error) {
	switch {
	case n < 0:
		return http.StatusLengthRequired, errkind.WithHint(errkind.Errorf(errkind.Invalid, "upload: the header Content-Length is missing"), "send the size of the image")
	case n == 0:
		return http.StatusBadRequest, errkind.Errorf(errkind.Invalid, "upload: the image is empty")
	case n > maxUpload:
		return http.StatusRequestEntityTooLarge, errkind.Errorf(errkind.TooLarge, "upload: the image has %d bytes, at most %d are allowed", n, int64(maxUpload))
	}
	return 0, nil
}

// receive sends the body to tridentd, no faster than tridentd reads it and the limits of the
// caller permit, and keeps the handle. It returns the ID of the upload.
func (c *conn) receive(ctx context.Context, w http.ResponseWriter, r *http.Request) (id string, err error) {
	end, err := c.uploads.Begin(c.gate.Identity())
	if err != nil {
		return "", err
	}
	defer end()
	conn, err := c.gate.Dial()
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, uploadMethod)
	if err != nil {
		return "", err
	}
	// A failure to send is io.EOF; the answer has the reason.
	if err := c.sendImage(ctx, stream, w, r); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	var got handlesv1.OpenImageResponse
	if err := stream.RecvMsg(&got); err != nil {
		return "", err
	}
	return c.uploads.Add(c.gate.Identity(), conn, got.GetImageHandle()), nil
}

func (c *conn) sendImage(ctx context.Context, stream grpc.ClientStream, w http.ResponseWriter, r *http.Request) error {
	err := stream.SendMsg(&handlesv1.OpenImageRequest{Part: &handlesv1.OpenImageRequest_Start_{Start: &handlesv1.OpenImageRequest_Start{
		Kind: handlesv1.ImageKind_IMAGE_KIND_TRIDENT, From: &handlesv1.OpenImageRequest_Start_Size{Size: r.ContentLength},
	}}})
	if err != nil {
		return err
	}
	control := http.NewResponseController(w)
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	buffer := make([]byte, chunkSize)
	for left := r.ContentLength; left > 0; {
		_ = control.SetReadDeadline(time.Now().Add(ioTime))
		n, err := io.ReadFull(r.Body, buffer[:min(left, chunkSize)])
		if err != nil {
			return errkind.With(errkind.Cancelled, fmt.Errorf("upload: read the image, of which %d bytes are missing: %w", left-int64(n), err))
		}
		if err := c.gate.Pass(ctx, n); err != nil {
			return err
		}
		// SendMsg has encoded the chunk when it returns.
		if err := stream.SendMsg(&handlesv1.OpenImageRequest{Part: &handlesv1.OpenImageRequest_Chunk{Chunk: buffer[:n]}}); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// failUpload answers with an error in the form of JSON-RPC and with the HTTP status code; 0 means
// the status that fits the error.
func failUpload(w http.ResponseWriter, code int, err error) {
	fault := toFault(err)
	if code == 0 {
		code = httpStatus(codes.Code(fault.Code)) //nolint:gosec // a code of gRPC
	}
	answer, merr := json.Marshal(map[string]*envelope.Error{"error": fault})
	if merr != nil {
		http.Error(w, merr.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(answer) // the caller may be gone
}

// httpStatus returns the status of HTTP for a code of gRPC.
func httpStatus(c codes.Code) int {
	switch c {
	case codes.InvalidArgument, codes.OutOfRange, codes.Canceled:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.FailedPrecondition, codes.Aborted, codes.AlreadyExists:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}
