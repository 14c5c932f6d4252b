package clienttest

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/trident-project/trident/proto/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
)

func (s *Server) can(capability string) bool {
	return slices.Contains(s.config.Capabilities, capability)
}

func (s *Server) noteUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	s.note(info.FullMethod)
	if err := check(ctx, req); err != nil {
		return nil, s.answer(err)
	}
	resp, err := handler(ctx, req)
	return resp, s.answer(err)
}

func (s *Server) noteStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	s.note(info.FullMethod)
	return s.answer(handler(srv, &checkedStream{ServerStream: stream}))
}

func (s *Server) note(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, method)
}

type setupServer struct {
	setupv1.UnimplementedSetupServiceServer
	*Server
}

func (s setupServer) Handshake(_ context.Context, req *setupv1.HandshakeRequest) (*setupv1.HandshakeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lacking []string
	for _, name := range req.GetRequiredCapabilities() {
		if !s.can(name) {
			lacking = append(lacking, name)
		}
	}
	if len(lacking) > 0 {
		return nil, grpckind.Error(
			errkind.WithHint(errkind.Errorf(errkind.Precondition, "tridentd lacks %s", strings.Join(lacking, ", ")), "upgrade Trident on this host, or use an older client"),
			map[string]string{grpckind.MetaCapabilities: strings.Join(lacking, ",")})
	}
	return &setupv1.HandshakeResponse{
		ServerVersion: s.config.Version, Capabilities: s.config.Capabilities, HostId: s.config.HostID, DaemonId: strconv.Itoa(s.daemon),
		ApiPackages: []string{
			"trident.handles.v1", "trident.host.v1", "trident.machine.v1", "trident.operations.v1", "trident.self.v1", "trident.setup.v1", "trident.v1", "trident.v1preview",
		},
		Limits: &setupv1.Limits{
			MaxMessageBytes: 1<<20 + 64<<10, MaxChunkBytes: maxChunk, MaxStreams: 100, MaxConnections: 64, MaxHandles: 16, MaxHandleBytes: 4 << 30,
			MaxConfigBytes: maxConfig, MaxList: maxList,
		},
	}, nil
}

// handle is an image or a Host Configuration that a connection has opened.
type handle struct {
	conn connNumber
	kind handlesv1.ImageKind // of an image; 0 for a Host Configuration
	data []byte
}

type handleServer struct {
	handlesv1.UnimplementedHandleServiceServer
	*Server
}

func (s handleServer) OpenConfig(stream grpc.ClientStreamingServer[handlesv1.OpenConfigRequest, handlesv1.OpenConfigResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	data, err := gather(first.GetStart().GetSize(), func() ([]byte, error) {
		req, err := stream.Recv()
		return req.GetChunk(), err
	})
	if err == nil {
		_, err = hash(data, first.GetStart().GetSha384())
	}
	if err != nil {
		return err
	}
	return stream.SendAndClose(&handlesv1.OpenConfigResponse{ConfigHandle: s.open(stream.Context(), &handle{data: data})})
}

func (s handleServer) OpenImage(stream grpc.ClientStreamingServer[handlesv1.OpenImageRequest, handlesv1.OpenImageResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	data, err := gather(first.GetStart().GetSize(), func() ([]byte, error) {
		req, err := stream.Recv()
		return req.GetChunk(), err
	})
	if err != nil {
		return err
	}
	sum := first.GetStart().GetSha384()
	if first.GetStart().GetSize() > 0 { // the images of paths and URLs exist only on a host
		if sum, err = hash(data, sum); err != nil {
			return err
		}
	}
	id := s.open(stream.Context(), &handle{kind: first.GetStart().GetKind(), data: data})
	return stream.SendAndClose(&handlesv1.OpenImageResponse{ImageHandle: id, Size: int64(len(data)), Sha384: sum})
}

// gather receives chunks until there are size bytes.
func gather(size int64, next func() ([]byte, error)) (all []byte, err error) {
	for int64(len(all)) < size {
		chunk, err := next()
		if errors.Is(err, io.EOF) {
			return nil, errkind.Errorf(errkind.Unavailable, "receive: it stopped at %d of %d bytes", len(all), size)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, chunk...)
	}
	if int64(len(all)) > size {
		return nil, errkind.Errorf(errkind.Invalid, "receive: more than the %d bytes that were announced", size)
	}
	return all, nil
}

// hash returns the SHA-384 of data, which must be want unless that is empty.
func hash(data []byte, want string) (string, error) {
	sum := sha512.Sum384(data)
	got := hex.EncodeToString(sum[:])
	if want != "" && !strings.EqualFold(want, got) {
		return "", errkind.Errorf(errkind.Corrupt, "its SHA-384 is %s, and should be %s", got, want)
	}
	return got, nil
}

func (s handleServer) Close(ctx context.Context, req *handlesv1.CloseRequest) (*handlesv1.CloseResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.handles[req.GetHandle()]; h == nil || h.conn != connOf(ctx) {
		return nil, errkind.WithField(noHandle(req.GetHandle()), "handle")
	}
	delete(s.handles, req.GetHandle())
	return &handlesv1.CloseResponse{}, nil
}

func (s *Server) open(ctx context.Context, h *handle) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.conn = connOf(ctx)
	s.lastHandle++
	s.handles[s.lastHandle] = h
	return s.lastHandle
}

// opened returns the data of a handle of the given kind on this connection.
func (s *Server) opened(ctx context.Context, id int64, kind handlesv1.ImageKind) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.handles[id]
	switch {
	case h == nil || h.conn != connOf(ctx):
		return nil, noHandle(id)
	case h.kind != kind:
		return nil, errkind.Errorf(errkind.Invalid, "handle %d is of another kind", id)
	}
	return h.data, nil
}

func noHandle(id int64) error {
	if id <= 0 {
		return errkind.Errorf(errkind.Invalid, "handle %d: a handle is a number greater than 0", id)
	}
	return errkind.Errorf(errkind.NotFound, "handle %d is not open on this connection", id)
}

func connOf(ctx context.Context) connNumber {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return 0
	}
	number, _ := p.Addr.(connNumber)
	return number
}
