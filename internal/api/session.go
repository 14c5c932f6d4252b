package api

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/handles"
)

// A session is the state of one connection beyond its calls: what its client stated in a
// handshake, and its lifetime. Without a handshake it has the zero values, as for the
// oldest client.
type session struct {
	life    context.Context // ends with the connection
	account *account        // nil in tests of single parts

	mu         sync.Mutex
	client     string
	maxMessage int64
	uses       int       // running calls and open handles
	idleFrom   time.Time // when uses became 0
	ended      bool      // the connection is ending for another one
}

func newSession() (*session, context.CancelFunc) {
	life, end := context.WithCancel(context.Background())
	return &session{life: life, idleFrom: time.Now()}, end
}

// Life returns a context that ends with the connection.
func (s *session) Life() context.Context { return s.life }

// Use counts a call or a handle until done is called. ok is false if the connection is
// ending because it was idle.
func (s *session) Use() (done func(), ok bool) {
	if s == nil {
		return func() {}, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, false
	}
	s.uses++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.uses--; s.uses == 0 {
			s.idleFrom = time.Now()
		}
	}), true
}

// idleSince returns when the last call ended; false while a call runs or a handle is
// open.
func (s *session) idleSince() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idleFrom, s.uses == 0 && !s.ended
}

// endIfIdle marks an idle session as ended, so that no call begins on it. It returns false if
// a call runs.
func (s *session) endIfIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = s.ended || s.uses == 0
	return s.ended
}

// sessionOf returns the session of a call, or nil in tests of single parts.
func sessionOf(ctx context.Context) *session {
	if p, ok := peer.FromContext(ctx); ok {
		if who, ok := p.AuthInfo.(peerInfo); ok {
			return who.session
		}
	}
	return nil
}

// ownerOf returns the session of a call as the owner of handles, or nil.
func ownerOf(ctx context.Context) handles.Owner {
	if s := sessionOf(ctx); s != nil {
		return s
	}
	return nil
}

// introduce records what the client stated in its handshake.
func (s *session) introduce(client string, maxMessage int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client, s.maxMessage = client, maxMessage
}

// name returns the client's name and version, or "".
func (s *session) name() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// checkSize fails with TooLarge if the client does not accept a message of this size. Without
// this check the client's connection would fail without a reason.
func (s *session) checkSize(m any) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	limit := s.maxMessage
	s.mu.Unlock()
	if message, ok := m.(proto.Message); ok && limit > 0 {
		if size := int64(proto.Size(message)); size > limit {
			return errkind.Errorf(errkind.TooLarge, "the answer has %d bytes, and the caller accepts %d", size, limit)
		}
	}
	return nil
}

// countAnswer counts an answer as held by the daemon until its caller has read it.
func (s *session) countAnswer(m any) {
	if message, ok := m.(proto.Message); ok && s != nil && s.account != nil {
		s.account.willSend(int64(proto.Size(message)))
	}
}

// stream is a stream of a session, with a context that may end earlier. It counts as a
// call of the session from its first request on: a stream with headers only does not keep
// a connection.
type stream struct {
	grpc.ServerStream
	ctx     context.Context
	session *session
	method  string
	gate    *gate
	done    func() // set by the first request
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) RecvMsg(m any) error {
	var from encoded
	if err := s.ServerStream.RecvMsg(&from); err != nil {
		return err
	}
	if s.done == nil {
		done, ok := s.session.Use()
		if !ok {
			return errEnding(s.method)
		}
		s.done = done
	}
	return s.gate.decode(s.method, from, m)
}

func (s *stream) SendMsg(m any) error {
	if err := s.session.checkSize(m); err != nil {
		return err
	}
	s.session.countAnswer(m)
	return s.ServerStream.SendMsg(m)
}

func (s *stream) end() {
	if s.done != nil {
		s.done()
	}
}
