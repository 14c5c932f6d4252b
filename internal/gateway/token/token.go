// Package token makes, stores and checks bearer tokens (RFC 6750, section 2.1) of the
// gateway.
//
// A token is 32 random bytes. The file has their SHA-256 only, so nobody can take a token
// from it; a slow hash would gain nothing, because nobody can guess 256 random bits. Root
// owns the file and the gateway only reads it, so that a gateway that was taken over cannot
// make tokens.
package token

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
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/loginfile"
	"github.com/trident-project/trident/internal/gateway/rights"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// prefix begins each token, so that scanners for secrets find tokens that leaked.
const prefix = "trident_"

// Limits of the file.
const (
	maxFile   = 1 << 20
	maxTokens = 1000
)

// A Token is one entry of the file. Other versions read the file: add fields, never rename,
// remove or retype one.
type Token struct {
	Name    string    `json:"name"`
	Hash    string    `json:"sha256"` // of the whole text of the token, in hexadecimal digits
	Rights  []string  `json:"rights"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// Revoked is when the token was revoked; zero for a valid token.
	Revoked time.Time `json:"revoked,omitzero"`
}

// Identity returns the identity of a caller with this token.
func (t Token) Identity() string { return identityKind + t.Name }

const identityKind = "token:"

// State returns "valid", "expired" or "revoked".
func (t Token) State(now time.Time) string {
	switch {
	case !t.Revoked.IsZero():
		return "revoked"
	case !now.Before(t.Expires):
		return "expired"
	}
	return "valid"
}

// A List is the tokens of a gateway.
type List struct {
	Tokens []Token `json:"tokens"`
}

// Parse reads a file of tokens. Its errors are of kind Corrupt.
func Parse(data []byte) (*List, error) {
	var l List
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read the tokens: %w", err)
	}
	if len(l.Tokens) > maxTokens {
		return nil, errkind.Errorf(errkind.Corrupt, "read the tokens: there are %d, at most %d are allowed", len(l.Tokens), maxTokens)
	}
	seen := map[string]bool{}
	for i, t := range l.Tokens {
		_, wrongRights := rights.Parse(t.Rights)
		sum, wrongHash := hex.DecodeString(t.Hash)
		if err := errors.Join(loginfile.CheckName("a token", t.Name), wrongRights, wrongHash); err != nil {
			return nil, errkind.Errorf(errkind.Corrupt, "read the tokens: tokens[%d]: %w", i, err)
		}
		if len(sum) != sha256.Size || seen[t.Name] {
			return nil, errkind.Errorf(errkind.Corrupt, "read the tokens: tokens[%d]: its hash has %d bytes, or its name is used twice", i, len(sum))
		}
		seen[t.Name] = true
	}
	return &l, nil
}

// Read reads the file of tokens at path. A file that does not exist has no tokens.
func Read(path string) (*List, error) {
	data, err := regfile.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &List{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the tokens: %w", err)
	}
	l, err := Parse(data)
	if err != nil {
		return nil, errkind.WithHint(fmt.Errorf("%s: %w", path, err), "move the file aside and make new tokens")
	}
	return l, nil
}

// Write replaces the file of tokens at path. Only its owner can write it, and only members
// of the group gid, above all the gateway, can read it.
func (l *List) Write(path string, gid int) error {
	if err := loginfile.Write(path, l, gid); err != nil {
		return fmt.Errorf("write the tokens: %w", err)
	}
	return nil
}

// Add adds a token and returns its text, which is not stored. It replaces an expired or
// revoked token of the same name; a valid one is an error of kind Exists.
func (l *List) Add(name string, names []string, now time.Time, life time.Duration) (text string, err error) {
	if err := loginfile.CheckName("a token", name); err != nil {
		return "", err
	}
	set, err := rights.Parse(names)
	switch {
	case err != nil:
		return "", fmt.Errorf("add token %s: %w", name, err)
	case set == 0:
		return "", errkind.WithHint(errkind.Errorf(errkind.Invalid, "add token %s: it has no right", name), "name at least one of read, operate, secret, admin")
	case life <= 0:
		return "", errkind.Errorf(errkind.Invalid, "add token %s: its life of %s is not positive", name, life)
	}
	if i := l.index(name); i >= 0 {
		if l.Tokens[i].State(now) == "valid" {
			return "", errkind.WithHint(errkind.Errorf(errkind.Exists, "add token %s: a token of this name is valid", name), "choose another name, or revoke that token")
		}
		l.Tokens = slices.Delete(l.Tokens, i, i+1)
	}
	if len(l.Tokens) >= maxTokens {
		return "", errkind.Errorf(errkind.TooLarge, "add token %s: there are %d tokens, which is the most", name, len(l.Tokens))
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	text = prefix + base64.RawURLEncoding.EncodeToString(secret)
	l.Tokens = append(l.Tokens, Token{Name: name, Hash: hash(text), Rights: names, Created: now.UTC().Truncate(time.Second), Expires: now.Add(life).UTC().Truncate(time.Second)})
	return text, nil
}

// Revoke marks a token as revoked. The error for a token that does not exist, or was revoked
// before, is of kind NotFound or Exists.
func (l *List) Revoke(name string, now time.Time) error {
	i := l.index(name)
	switch {
	case i < 0:
		return errkind.WithHint(errkind.Errorf(errkind.NotFound, "revoke token %s: no token has this name", name), "see trident-gateway token list")
	case !l.Tokens[i].Revoked.IsZero():
		return errkind.Errorf(errkind.Exists, "revoke token %s: it was revoked at %s", name, l.Tokens[i].Revoked.Format(time.RFC3339))
	}
	l.Tokens[i].Revoked = now.UTC().Truncate(time.Second)
	return nil
}

func (l *List) index(name string) int {
	return slices.IndexFunc(l.Tokens, func(t Token) bool { return t.Name == name })
}

// Find returns the valid token with the given text. The error is of kind Denied; it contains
// no part of the text. Its time does not depend on how much of a text is right.
func (l *List) Find(text string, now time.Time) (Token, error) {
	given, found := []byte(hash(text)), -1
	for i, t := range l.Tokens {
		if subtle.ConstantTimeCompare(given, []byte(strings.ToLower(t.Hash))) == 1 {
			found = i
		}
	}
	if found < 0 {
		return Token{}, errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: the token is not known here"), "make a token on the host: trident-gateway token add NAME")
	}
	t := l.Tokens[found]
	if state := t.State(now); state != "valid" {
		return Token{}, errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: token %s is %s", t.Name, state), "make a new one on the host: trident-gateway token add %s", t.Name)
	}
	return t, nil
}

// Named returns the token of a name.
func (l *List) Named(name string) (Token, bool) {
	i := l.index(name)
	if i < 0 {
		return Token{}, false
	}
	return l.Tokens[i], true
}

// Rights returns the rights of an identity now: granted, and those of its token if it is of one. It
// fails with Denied if the identity is of a token that is not valid.
func (l *List) Rights(who string, granted rights.Set, now time.Time) (rights.Set, error) {
	name, ok := strings.CutPrefix(who, identityKind)
	if !ok {
		return granted, nil
	}
	t, ok := l.Named(name)
	if !ok || t.State(now) != "valid" {
		return 0, errkind.Errorf(errkind.Denied, "there is no valid token of this name")
	}
	own, err := rights.Parse(t.Rights)
	return granted | own, err
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
