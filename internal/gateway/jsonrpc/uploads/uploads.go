// Package uploads keeps the images that callers of JSON-RPC have sent, until a method uses them.
// tridentd has the bytes, behind a handle. The gateway keeps the connection to tridentd to which
// the handle belongs; tridentd deletes the bytes when that connection closes.
package uploads

import (
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/errkind"
)

// Bounds of uploads.
const (
	// maxOwn is how many uploads one identity has, with those that are being received.
	maxOwn = 2
	// maxAll is how many there are of all identities.
	maxAll = 8
	// keepTime is how long an upload waits for the method that uses it.
	keepTime = 10 * time.Minute
)

// A Conn is a connection to tridentd for one upload alone.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// An Upload is an image that a caller has sent.
type Upload struct {
	ID     string
	Handle int64 // belongs to Conn
	Conn   Conn

	owner string
	timer *time.Timer
}

// A Store has the uploads of all callers. Its methods may be called concurrently.
type Store struct {
	keep time.Duration // keepTime, shorter in tests

	mu        sync.Mutex
	kept      []*Upload      // the oldest first
	receiving map[string]int // uploads that are being received, by owner
	running   int            // the sum of receiving
	closed    bool
}

// New returns an empty store.
func New() *Store { return &Store{keep: keepTime, receiving: map[string]int{}} }

// Begin reserves a place for an upload of owner until end is called. If owner, or all owners
// together, have as many uploads as they may, Begin discards the oldest upload of owner that
// waits for its use. It fails with TooLarge if owner has none that waits.
func (s *Store) Begin(owner string) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.receiving[owner]
	for _, u := range s.kept {
		if u.owner == owner {
			own++
		}
	}
	isOwn := func(u *Upload) bool { return u.owner == owner }
	if own >= maxOwn || s.running+len(s.kept) >= maxAll {
		i := slices.IndexFunc(s.kept, isOwn)
		if i < 0 {
			return nil, errkind.WithHint(errkind.Errorf(errkind.TooLarge, "upload for %s: it has %d uploads and all callers have %d; at most %d and %d are allowed", owner, own, s.running+len(s.kept), maxOwn, maxAll),
				"wait until another upload has ended")
		}
		s.drop(s.kept[i])
	}
	s.receiving[owner]++
	s.running++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
		if s.receiving[owner]--; s.receiving[owner] == 0 {
			delete(s.receiving, owner)
		}
	}), nil
}

// Add keeps an image of owner for ten minutes, and returns its ID. The store closes conn in the
// end.
func (s *Store) Add(owner string, conn Conn, handle int64) string {
	u := &Upload{ID: rand.Text(), Handle: handle, Conn: conn, owner: owner}
	s.Return(u)
	return u.ID
}

// Take removes an upload of owner from the store. The caller of Take then closes its connection,
// or returns the upload with Return. Take fails with NotFound, also for an upload of another
// owner.
func (s *Store) Take(owner, id string) (*Upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.kept, func(u *Upload) bool { return u.owner == owner && u.ID == id })
	if i < 0 {
		return nil, errkind.WithHint(errkind.Errorf(errkind.NotFound, "use the upload %.40q: there is no such upload", id), "upload the image again; an upload is kept for %s and serves one operation", keepTime)
	}
	u := s.kept[i]
	u.timer.Stop()
	s.kept = slices.Delete(s.kept, i, i+1)
	return u, nil
}

// Return puts an upload that was taken and not used back into the store, for another ten minutes.
func (s *Store) Return(u *Upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = u.Conn.Close()
		return
	}
	s.kept = append(s.kept, u)
	u.timer = time.AfterFunc(s.keep, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(u)
	})
}

// drop removes an upload from the store and closes its connection, if the store has it. The
// caller holds s.mu.
func (s *Store) drop(u *Upload) {
	if i := slices.Index(s.kept, u); i >= 0 {
		u.timer.Stop()
		s.kept = slices.Delete(s.kept, i, i+1)
		_ = u.Conn.Close()
	}
}

// Close closes the connections of all uploads that wait, and of each upload that is added later.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for len(s.kept) > 0 {
		s.drop(s.kept[0])
	}
}
