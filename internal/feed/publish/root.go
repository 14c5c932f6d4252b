package publish

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// maxRoot is the most bytes of a root, which hosts also permit, and maxRoots the most roots, which
// hosts follow one by one.
const (
	maxRoot  = 512_000
	maxRoots = 256
)

type root = metadata.Metadata[metadata.RootType]

func (p *Publisher) rootsDir() string    { return filepath.Join(p.keys, "roots") }
func (p *Publisher) nextRoot() string    { return filepath.Join(p.keys, "next-root.json") }
func (p *Publisher) bytesToSign() string { return filepath.Join(p.keys, "next-root.tosign") }
func (p *Publisher) hostsRoot() string   { return filepath.Join(p.keys, "for-hosts", "feed-root.json") }
func (p *Publisher) hostsPubring() string {
	return filepath.Join(p.keys, "for-hosts", "import-pubring.gpg")
}

func rootName(version int64) string { return fmt.Sprintf("%d.root.json", version) }

// roots reads every root, beginning with version 1.
func (p *Publisher) roots() ([][]byte, error) {
	var all [][]byte
	for v := int64(1); v <= maxRoots; v++ {
		data, err := regfile.ReadFile(filepath.Join(p.rootsDir(), rootName(v)), maxRoot)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read roots: %w", err)
		}
		all = append(all, data)
	}
	return all, nil
}

// current returns the newest root; nil if the first one waits for signatures.
func (p *Publisher) current() (*root, error) {
	all, err := p.roots()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return parseRoot(all[len(all)-1])
}

// next returns the root that Publish is to install; nil if there is none.
func (p *Publisher) next() (*root, error) {
	data, err := regfile.ReadFile(p.nextRoot(), maxRoot)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read next root: %w", err)
	}
	return parseRoot(data)
}

func parseRoot(data []byte) (*root, error) {
	m, err := new(root).FromBytes(data)
	if err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read root: %w", err)
	}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		if m.Signed.Roles[role] == nil {
			return nil, errkind.Errorf(errkind.Corrupt, "read root: version %d has no role %s", m.Signed.Version, role)
		}
	}
	return m, nil
}

// newRoot returns a root of version 1 with these keys.
func newRoot(keys map[string][]ed25519.PublicKey, threshold int) *root {
	m := metadata.Root()
	m.Signed.Version = 1
	for role, list := range keys {
		setKeys(m, role, list)
	}
	m.Signed.Roles[metadata.ROOT].Threshold = threshold
	return m
}

// setKeys replaces the keys of a role.
func setKeys(m *root, role string, keys []ed25519.PublicKey) {
	m.Signed.Roles[role].KeyIDs = []string{}
	for _, public := range keys {
		k := keyOf(public)
		m.Signed.Keys[k.id] = k.key
		if !slices.Contains(m.Signed.Roles[role].KeyIDs, k.id) {
			m.Signed.Roles[role].KeyIDs = append(m.Signed.Roles[role].KeyIDs, k.id)
		}
	}
	slices.Sort(m.Signed.Roles[role].KeyIDs)
	maps.DeleteFunc(m.Signed.Keys, func(id string, _ *metadata.Key) bool {
		for _, r := range m.Signed.Roles {
			if slices.Contains(r.KeyIDs, id) {
				return false
			}
		}
		return true
	})
}

// signersOf returns the IDs of the root keys that may have to sign next: its own and those of the
// root before, which may be nil.
func signersOf(before, next *root) []string {
	ids := slices.Clone(next.Signed.Roles[metadata.ROOT].KeyIDs)
	if before != nil {
		ids = append(ids, before.Signed.Roles[metadata.ROOT].KeyIDs...)
	}
	return slices.Compact(slices.Sorted(slices.Values(ids)))
}

// isComplete reports whether next has the signatures that its own keys and those of the root
// before have to make (TUF 1.0.31, 5.3.4).
func isComplete(before, next *root) bool {
	if next.VerifyDelegate(metadata.ROOT, next) != nil {
		return false
	}
	return before == nil || before.VerifyDelegate(metadata.ROOT, next) == nil
}

// proposeRoot makes next the root that Publish installs, signed with the root keys of the key
// folder. If those are too few, Waiting says so.
func (p *Publisher) proposeRoot(before, next *root, validity time.Duration) error {
	next.Signed.Expires = p.now.Add(validity)
	if _, err := sign(next, p.ring, signersOf(before, next)); err != nil {
		return err
	}
	return p.keepNext(before, next)
}

// keepNext stores next. The first root becomes the current one as soon as it is complete.
func (p *Publisher) keepNext(before, next *root) error {
	data, err := next.ToBytes(false)
	if err != nil {
		return fmt.Errorf("encode root: %w", err)
	}
	if len(data) > maxRoot {
		return errkind.Errorf(errkind.TooLarge, "make root %d: it has %d bytes, at most %d are permitted", next.Signed.Version, len(data), maxRoot)
	}
	bytes, err := toSign(next)
	if err != nil {
		return err
	}
	if !isComplete(before, next) {
		return errors.Join(p.write(p.bytesToSign(), fixed(bytes), 0o600), p.write(p.nextRoot(), fixed(data), 0o600))
	}
	if before != nil {
		return errors.Join(p.write(p.nextRoot(), fixed(data), 0o600), p.remove(p.bytesToSign()))
	}
	if err := p.write(filepath.Join(p.rootsDir(), rootName(1)), fixed(data), 0o600); err != nil {
		return err
	}
	return errors.Join(p.write(p.hostsRoot(), fixed(data), 0o644), p.remove(p.nextRoot()), p.remove(p.bytesToSign()))
}

// A Waiting is a root that keys kept elsewhere have to sign.
type Waiting struct {
	// Version is the version of the root.
	Version int64 `json:"version"`
	// File has the bytes to sign.
	File string `json:"file"`
	// Keys are the keys that may sign.
	Keys []WaitingKey `json:"keys"`
}

// A WaitingKey is a root key.
type WaitingKey struct {
	// ID is the key ID of The Update Framework, Public the public key, in hexadecimal digits.
	ID     string `json:"id"`
	Public string `json:"public"`
	// Signed says whether the root has a signature by the key.
	Signed bool `json:"signed"`
}

// Waiting returns the root that waits for signatures; nil if none waits.
func (p *Publisher) Waiting() (*Waiting, error) {
	before, next, err := p.bothRoots()
	if err != nil || next == nil || isComplete(before, next) {
		return nil, err
	}
	w := &Waiting{Version: next.Signed.Version, File: p.bytesToSign()}
	for _, id := range signersOf(before, next) {
		key := next.Signed.Keys[id]
		if key == nil {
			key = before.Signed.Keys[id]
		}
		signed := slices.ContainsFunc(next.Signatures, func(s metadata.Signature) bool { return s.KeyID == id })
		w.Keys = append(w.Keys, WaitingKey{ID: id, Public: key.Value.PublicKey, Signed: signed})
	}
	return w, nil
}

func (p *Publisher) bothRoots() (before, next *root, err error) {
	if before, err = p.current(); err != nil {
		return nil, nil, err
	}
	next, err = p.next()
	return before, next, err
}

// TakeSignature adds a signature, the 64 bytes of ed25519 (RFC 8032) over the bytes in the file of
// Waiting, to the root that waits for it.
func (p *Publisher) TakeSignature(signature []byte) error {
	w, err := p.Waiting()
	if err != nil {
		return err
	}
	if w == nil {
		return errkind.Errorf(errkind.Precondition, "take a signature: no root waits for one")
	}
	before, next, err := p.bothRoots()
	if err != nil {
		return err
	}
	data, err := toSign(next)
	if err != nil {
		return err
	}
	for _, k := range w.Keys {
		public, err := hex.DecodeString(k.Public)
		if err != nil || len(public) != ed25519.PublicKeySize || !ed25519.Verify(public, data, signature) {
			continue
		}
		if !k.Signed {
			next.Signatures = append(next.Signatures, metadata.Signature{KeyID: k.ID, Signature: signature})
			slices.SortFunc(next.Signatures, func(a, b metadata.Signature) int { return compare(a.KeyID, b.KeyID) })
		}
		return p.keepNext(before, next)
	}
	return errkind.WithHint(errkind.Errorf(errkind.Untrusted, "take a signature: none of the %d root keys made it over %s", len(w.Keys), w.File),
		"Sign the file as it is: openssl pkeyutl -sign -rawin -inkey KEY -in %s -out SIGNATURE", w.File)
}

// SignWith signs the root that waits with a root key.
func (p *Publisher) SignWith(key ed25519.PrivateKey) error {
	_, next, err := p.bothRoots()
	if err != nil {
		return err
	}
	if next == nil {
		return errkind.Errorf(errkind.Precondition, "sign root: no root waits for a signature")
	}
	data, err := toSign(next)
	if err != nil {
		return err
	}
	return p.TakeSignature(ed25519.Sign(key, data))
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// feedFile is the path of a file of the metadata in the feed folder.
func (p *Publisher) feedFile(name string) string { return filepath.Join(p.dir, feed.Metadata, name) }
