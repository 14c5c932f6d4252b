// Package password stores and checks passphrases, with which a person logs in at the gateway,
// and the tokens that a person has after that.
//
// The file has an argon2id hash (RFC 9106) of each passphrase. Root owns the file and the
// gateway only reads it. A check takes memory and time by design, so one runs at a time and
// few wait.
package password

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/loginfile"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// Bounds of the file, and of a passphrase in bytes.
const (
	maxFile       = 64 << 10
	maxEntries    = 100
	MinPassphrase = 12
	MaxPassphrase = 1024
)

// DefaultName is the name of the person if none is given.
const DefaultName = "admin"

// An Entry is the passphrase of one person. Other versions read the file: add fields, never
// rename, remove or retype one.
type Entry struct {
	Name    string    `json:"name"`
	Hash    string    `json:"argon2id"` // in the PHC string format
	Created time.Time `json:"created"`
}

// Identity returns the identity of a caller with this passphrase.
func (e Entry) Identity() string { return "passphrase:" + e.Name }

// A List is the passphrases of a gateway.
type List struct {
	Entries []Entry `json:"passphrases"`
}

// Read reads the file at path. A file that does not exist has no passphrases. A malformed
// file is an error of kind Corrupt.
func Read(path string) (*List, error) {
	data, err := regfile.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &List{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the passphrases: %w", err)
	}
	l, err := parse(data)
	if err != nil {
		return nil, errkind.WithHint(errkind.With(errkind.Corrupt, fmt.Errorf("read the passphrases: %s: %w", path, err)),
			"move the file aside and set the passphrases again: trident-gateway passphrase set")
	}
	return l, nil
}

func parse(data []byte) (*List, error) {
	var l List
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, err
	}
	if len(l.Entries) > maxEntries {
		return nil, fmt.Errorf("there are %d, at most %d are allowed", len(l.Entries), maxEntries)
	}
	for i, e := range l.Entries {
		_, wrongHash := parseHash(e.Hash)
		if err := errors.Join(loginfile.CheckName("a person", e.Name), wrongHash); err != nil {
			return nil, fmt.Errorf("passphrases[%d]: %w", i, err)
		}
		if l.index(e.Name) != i {
			return nil, fmt.Errorf("passphrases[%d]: its name is used twice", i)
		}
	}
	return &l, nil
}

// Write replaces the file at path. Only its owner can write it, and only members of the group
// gid can read it.
func (l *List) Write(path string, gid int) error {
	if err := loginfile.Write(path, l, gid); err != nil {
		return fmt.Errorf("write the passphrases: %w", err)
	}
	return nil
}

// Set sets the passphrase of a person. It fails with Invalid if the passphrase is shorter than
// MinPassphrase or longer than MaxPassphrase.
func (l *List) Set(name, passphrase string, now time.Time) error {
	if err := loginfile.CheckName("a person", name); err != nil {
		return err
	}
	switch {
	case len(passphrase) < MinPassphrase:
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "set the passphrase of %s: it has %d characters, and needs %d", name, len(passphrase), MinPassphrase),
			"use several words")
	case len(passphrase) > MaxPassphrase || !utf8.ValidString(passphrase):
		return errkind.Errorf(errkind.Invalid, "set the passphrase of %s: it is longer than %d bytes, or not UTF-8", name, MaxPassphrase)
	}
	e := Entry{Name: name, Hash: newHash(passphrase), Created: now.UTC().Truncate(time.Second)}
	if i := l.index(name); i >= 0 {
		l.Entries[i] = e
		return nil
	}
	if len(l.Entries) >= maxEntries {
		return errkind.Errorf(errkind.TooLarge, "set the passphrase of %s: there are %d passphrases, which is the most", name, len(l.Entries))
	}
	l.Entries = append(l.Entries, e)
	return nil
}

// Remove removes the passphrase of a person; NotFound if there is none.
func (l *List) Remove(name string) error {
	i := l.index(name)
	if i < 0 {
		return errkind.Errorf(errkind.NotFound, "remove the passphrase of %.80s: there is none", name)
	}
	l.Entries = slices.Delete(l.Entries, i, i+1)
	return nil
}

func (l *List) index(name string) int {
	return slices.IndexFunc(l.Entries, func(e Entry) bool { return e.Name == name })
}
