package api

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/internal/errkind"
)

// A session is what one connection has beyond its calls: what its client said
// in a handshake, and how long it lives. A connection without a handshake has
// the zero values, which is how the oldest client is served.
type session struct {
	life context.Context // ends with the connection

	mu         sync.Mutex
	client     string
	maxMessage int64
}

func newSession() (*session, context.CancelFunc) {
	life, end := context.WithCancel(context.Background())
	return &session{life: life}, end
}

// sessionOf is the session of a call; nil for a call that came over none, as in
// tests of single parts.
func sessionOf(ctx context.Context) *session {
	if p, ok := peer.FromContext(ctx); ok {
		if who, ok := p.AuthInfo.(peerInfo); ok {
			return who.session
		}
	}
	return nil
}

// introduce notes what the client said of itself.
func (s *session) introduce(client string, maxMessage int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client, s.maxMessage = client, maxMessage
}

// name is the client's name and version, or "".
func (s *session) name() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// takes reports whether the client takes a message. Without this check a client
// would see its connection fail, and not why.
func (s *session) takes(m any) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	limit := s.maxMessage
	s.mu.Unlock()
	if message, ok := m.(proto.Message); ok && limit > 0 {
		if size := int64(proto.Size(message)); size > limit {
			return errkind.Errorf(errkind.TooLarge, "the answer has %d bytes, and the caller takes %d", size, limit)
		}
	}
	return nil
}

// stream is a stream of a session, with a context that may end sooner.
type stream struct {
	grpc.ServerStream
	ctx     context.Context
	session *session
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) SendMsg(m any) error {
	if err := s.session.takes(m); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}
