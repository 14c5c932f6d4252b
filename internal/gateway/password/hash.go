package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/trident-project/trident/internal/errkind"
)

// The parameters of new hashes: the second choice of OWASP's Password Storage Cheat Sheet,
// which fits small hosts.
const (
	passes  = 2
	kibi    = 19 << 10
	threads = 1
)

// Bounds of the hashes that the gateway checks, so that a file cannot take its memory.
const (
	maxPasses  = 16
	maxKibi    = 128 << 10
	maxThreads = 4
)

// hash is an argon2id hash with its parameters.
type hash struct {
	passes, kibi uint32
	threads      uint8
	salt, sum    []byte
}

func newHash(passphrase string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	sum := argon2.IDKey([]byte(passphrase), salt, passes, kibi, threads, 32)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, kibi, passes, threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum))
}

// parseHash reads a hash in the PHC string format
// (https://github.com/P-H-C/phc-string-format). Its errors do not contain the hash.
func parseHash(text string) (*hash, error) {
	h, version := &hash{}, 0
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return nil, fmt.Errorf("the hash is not an argon2id hash in the PHC string format")
	}
	_, wrongVersion := fmt.Sscanf(parts[2], "v=%d", &version)
	_, wrongParams := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.kibi, &h.passes, &h.threads)
	salt, wrongSalt := base64.RawStdEncoding.DecodeString(parts[4])
	sum, wrongSum := base64.RawStdEncoding.DecodeString(parts[5])
	switch {
	case wrongVersion != nil || version != argon2.Version:
		return nil, fmt.Errorf("the hash is not of argon2 version %d", argon2.Version)
	case wrongParams != nil || h.passes < 1 || h.passes > maxPasses || h.kibi < 8 || h.kibi > maxKibi || h.threads < 1 || h.threads > maxThreads:
		return nil, fmt.Errorf("the parameters of the hash are not m=8 to %d, t=1 to %d, p=1 to %d", maxKibi, maxPasses, maxThreads)
	case wrongSalt != nil || wrongSum != nil || len(salt) < 8 || len(salt) > 64 || len(sum) < 16 || len(sum) > 64:
		return nil, fmt.Errorf("the salt of the hash has not 8 to 64 bytes, or its sum not 16 to 64")
	}
	h.salt, h.sum = salt, sum
	return h, nil
}

func (h *hash) matches(passphrase string) bool {
	sum := argon2.IDKey([]byte(passphrase), h.salt, h.passes, h.kibi, h.threads, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// maxWaiting is how many checks wait for their turn.
const maxWaiting = 8

// A Checker checks passphrases, one at a time.
type Checker struct {
	turn    chan struct{}
	waiting chan struct{}
	decoy   *hash
}

// NewChecker returns a checker.
func NewChecker() *Checker {
	return &Checker{
		turn: make(chan struct{}, 1), waiting: make(chan struct{}, maxWaiting),
		decoy: &hash{passes: passes, kibi: kibi, threads: threads, salt: make([]byte, 16), sum: make([]byte, 32)},
	}
}

// Check returns the entry of a name if the passphrase is right. The error for a wrong name is
// that for a wrong passphrase, of kind Denied, and comes as late. It is of kind Unavailable if
// too many checks wait.
func (c *Checker) Check(ctx context.Context, l *List, name, passphrase string) (Entry, error) {
	select {
	case c.waiting <- struct{}{}:
		defer func() { <-c.waiting }()
	default:
		return Entry{}, errkind.WithHint(errkind.Errorf(errkind.Unavailable, "log in: %d other logins wait", maxWaiting), "try again later")
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return Entry{}, context.Cause(ctx)
	}
	h, found := c.decoy, Entry{}
	if i := l.index(name); i >= 0 {
		found = l.Entries[i]
		parsed, err := parseHash(found.Hash)
		if err != nil {
			return Entry{}, errkind.With(errkind.Corrupt, fmt.Errorf("log in: %w", err))
		}
		h = parsed
	}
	if len(passphrase) > MaxPassphrase || !h.matches(passphrase) || found.Name == "" {
		return Entry{}, errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: the name or the passphrase is wrong"),
			"set a passphrase on the host: trident-gateway passphrase set")
	}
	return found, nil
}
