package password

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/loginfile"
	"github.com/trident-project/trident/internal/linux/regfile"
)

const (
	// ConsoleIdentity is the identity of a caller with a console token: root at the console of
	// the host.
	ConsoleIdentity = "console:root"
	// ConsolePrefix begins each console token.
	ConsolePrefix = "trident-console_"
	// ConsoleTime is how long a console token counts.
	ConsoleTime = 5 * time.Minute
)

// consoleFile is the content of the file. Other versions read it: add fields, never rename,
// remove or retype one.
type consoleFile struct {
	SHA256  string    `json:"sha256"`
	Expires time.Time `json:"expires"`
}

// NewConsoleToken returns a token for one login, and writes its hash to the file at path, which
// the members of the group gid can read. It takes the place of an earlier token.
func NewConsoleToken(path string, gid int, now time.Time) (token string, expires time.Time, err error) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	token = ConsolePrefix + base64.RawURLEncoding.EncodeToString(secret)
	sum := sha256.Sum256([]byte(token))
	expires = now.Add(ConsoleTime)
	if err := loginfile.Write(path, consoleFile{hex.EncodeToString(sum[:]), expires.UTC()}, gid); err != nil {
		return "", expires, fmt.Errorf("write the console token: %w", err)
	}
	return token, expires, nil
}

// A Console accepts the console token of a file. Its methods may be called concurrently.
type Console struct {
	mu   sync.Mutex
	path string
}

// NewConsole returns the console of the file at path; "" for none.
func NewConsole(path string) *Console { return &Console{path: path} }

// Use returns nil if token is the console token and counts, and removes the file, so that the
// token counts once, also after a restart of the gateway. The error for a wrong, used or
// expired token is of kind Denied and says no more.
func (c *Console) Use(token string, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	denied := errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: the console token is wrong, was used, or is older than %s", ConsoleTime),
		"make another one on the host: trident-gateway console")
	if c.path == "" || !strings.HasPrefix(token, ConsolePrefix) {
		return denied
	}
	data, err := regfile.ReadFile(c.path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return denied
	}
	if err != nil {
		return errkind.WithHint(errkind.With(errkind.Denied, fmt.Errorf("log in: read the console token: %w", err)),
			"root makes the token, and the group of the gateway reads it: trident-gateway console")
	}
	var known consoleFile
	err = json.Unmarshal(data, &known)
	want, wrongHash := hex.DecodeString(known.SHA256)
	if err = errors.Join(err, wrongHash); err != nil || len(want) != sha256.Size {
		return errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: the file of the console token is malformed"), "make another token on the host: trident-gateway console")
	}
	sum := sha256.Sum256([]byte(token))
	isRight := subtle.ConstantTimeCompare(sum[:], want) == 1
	isLate := !now.Before(known.Expires) || known.Expires.Sub(now) > ConsoleTime // the clock was set back
	if isRight || isLate {
		if err := os.Remove(c.path); err != nil {
			return errkind.With(errkind.Denied, fmt.Errorf("log in: use up the console token: %w", err))
		}
	}
	if !isRight || isLate {
		return denied
	}
	return nil
}
