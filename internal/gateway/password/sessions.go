package password

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// TokenPrefix begins each token of a session, so that scanners for secrets find it. No bearer
// token of the file of tokens begins with it.
const TokenPrefix = "trident-session_"

// Bounds of sessions, in all and of one person. A new one takes the place of the oldest one of
// the person.
const (
	maxSessions  = 1024
	maxPerPerson = 32
)

// A Session is what a person has after the login.
type Session struct {
	Entry   Entry // as it was at the login; the zero value for a login with a console token
	Expires time.Time
}

// IsConsole reports whether the login was with a console token.
func (s Session) IsConsole() bool { return s.Entry.Name == "" }

// Identity returns the identity of the person.
func (s Session) Identity() string {
	if s.IsConsole() {
		return ConsoleIdentity
	}
	return s.Entry.Identity()
}

// IsValid reports whether the session counts now: it has not expired, and the passphrase is
// the same as at the login.
func (s Session) IsValid(l *List, now time.Time) bool {
	if s.IsConsole() {
		return now.Before(s.Expires)
	}
	i := l.index(s.Entry.Name)
	return now.Before(s.Expires) && i >= 0 && l.Entries[i].Hash == s.Entry.Hash
}

// Sessions has the sessions of a gateway in memory, so they end with the gateway. Its methods
// may be called concurrently.
type Sessions struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]Session
}

// NewSessions returns an empty store.
func NewSessions() *Sessions { return &Sessions{of: map[[sha256.Size]byte]Session{}} }

// Begin begins a session of e, the zero value for a login with a console token, and returns its
// token. It fails with TooLarge if there are too many.
func (s *Sessions) Begin(e Entry, now time.Time, life time.Duration) (token string, expires time.Time, err error) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	token = TokenPrefix + base64.RawURLEncoding.EncodeToString(secret)
	expires = now.Add(life)
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest [sha256.Size]byte
	count := 0
	for key, other := range s.of {
		switch {
		case !now.Before(other.Expires):
			delete(s.of, key)
		case other.Entry.Name == e.Name:
			if count++; count == 1 || other.Expires.Before(s.of[oldest].Expires) {
				oldest = key
			}
		}
	}
	if count >= maxPerPerson {
		delete(s.of, oldest)
	}
	if len(s.of) >= maxSessions {
		return "", expires, errkind.Errorf(errkind.TooLarge, "log in: there are %d sessions, which is the most", len(s.of))
	}
	s.of[sha256.Sum256([]byte(token))] = Session{Entry: e, Expires: expires}
	return token, expires, nil
}

// Find returns the valid session of a token. ok is false for a text that is not the token of
// a session; the error, of kind Denied, is for one that is unknown or does not count any more.
func (s *Sessions) Find(token string, l *List, now time.Time) (found Session, ok bool, err error) {
	if !strings.HasPrefix(token, TokenPrefix) {
		return found, false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sha256.Sum256([]byte(token))
	found, known := s.of[key]
	if !known || !found.IsValid(l, now) {
		delete(s.of, key)
		return Session{}, true, errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: the session has expired, or the gateway or the passphrase has changed"), "log in again")
	}
	return found, true, nil
}
