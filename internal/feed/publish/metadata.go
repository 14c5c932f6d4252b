package publish

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/trident-project/trident/internal/errkind"
)

// Validity is for how long metadata is valid after it was signed. A host takes nothing from a
// feed whose metadata has expired, so a publisher publishes again before.
type Validity struct{ Timestamp, Snapshot, Targets, Root time.Duration }

const day = 24 * time.Hour

// DefaultValidity returns 7 days for timestamp and snapshot, 90 days for targets and channels, and
// a year for the root.
func DefaultValidity() Validity {
	return Validity{Timestamp: 7 * day, Snapshot: 7 * day, Targets: 90 * day, Root: 365 * day}
}

// maxValidity bounds each field of Validity.
const maxValidity = 10 * 366 * day

func (v Validity) check() error {
	for role, d := range map[string]time.Duration{"timestamp": v.Timestamp, "snapshot": v.Snapshot, "targets": v.Targets, "root": v.Root} {
		if d < time.Minute || d > maxValidity {
			return errkind.Errorf(errkind.Invalid, "the validity of %s, %s, is not between a minute and ten years", role, d)
		}
	}
	return nil
}

// toSign returns the bytes of a signed part that a signature is over (OLPC canonical JSON; TUF
// 1.0.31, 4.2.1).
func toSign[T metadata.Roles](m *metadata.Metadata[T]) ([]byte, error) {
	data, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	return data, nil
}

// sign signs m with those of the keys in ids that the ring has, in the order of the IDs, and
// returns how many they were.
func sign[T metadata.Roles](m *metadata.Metadata[T], ring keyring, ids []string) (int, error) {
	data, err := toSign(m)
	if err != nil {
		return 0, err
	}
	m.Signatures = []metadata.Signature{}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		if key, ok := ring[id]; ok {
			m.Signatures = append(m.Signatures, metadata.Signature{KeyID: id, Signature: ed25519.Sign(key, data)})
		}
	}
	return len(m.Signatures), nil
}

// A draft is metadata of a role that Publish is about to write.
type draft struct {
	name string // of the file in the metadata folder
	data []byte
	file metaFile
}

func (d draft) meta() *metadata.MetaFiles {
	m := metadata.MetaFile(d.file.Version)
	m.Length = d.file.Size
	raw, err := hex.DecodeString(d.file.SHA256)
	if err != nil {
		panic(err) // draftOf or kept has made it
	}
	m.Hashes = metadata.Hashes{"sha256": raw}
	return m
}

// draftOf signs m, and returns its file. It fails if the key folder has none of the keys.
func (p *Publisher) draftOf(role string, m signable, content string, expires time.Time, ids []string) (draft, error) {
	n, err := m.sign(p.ring, ids)
	if err != nil {
		return draft{}, err
	}
	if n == 0 {
		return draft{}, errkind.WithHint(errkind.Errorf(errkind.NotFound, "sign %s: the key folder %s has no key for this role", role, p.keys),
			"Add the file of the private key with the ID %q as NAME.pem, or make a new key: trident feed rotate %s", slices.Compact(ids), role)
	}
	data, err := m.bytes()
	if err != nil {
		return draft{}, fmt.Errorf("encode %s: %w", role, err)
	}
	version := m.version()
	d := draft{name: fmt.Sprintf("%d.%s.json", version, role), data: data}
	d.file = metaFile{Version: version, Size: int64(len(data)), SHA256: sum(data), Content: content, Expires: expires}
	return d, nil
}

// A signable hides which role metadata is of.
type signable struct {
	sign    func(keyring, []string) (int, error)
	bytes   func() ([]byte, error)
	version func() int64
}

func signableOf[T metadata.Roles](m *metadata.Metadata[T], version int64) signable {
	return signable{
		sign:    func(ring keyring, ids []string) (int, error) { return sign(m, ring, ids) },
		bytes:   func() ([]byte, error) { return m.ToBytes(false) },
		version: func() int64 { return version },
	}
}

func sum(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}

// contentOf returns a hash of everything that makes a new version of targets metadata necessary.
func contentOf(t metadata.TargetsType, ids []string) (string, error) {
	t.Version, t.Expires = 0, time.Time{}
	data, err := json.Marshal(struct {
		Signed metadata.TargetsType
		Keys   []string
	}{t, ids})
	return sum(data), err
}

// channelTargets returns the metadata of a channel.
func channelTargets(c *channel) (*metadata.Metadata[metadata.TargetsType], error) {
	m := metadata.Targets()
	for path, image := range c.Images {
		custom, err := image.Release.Custom()
		if err != nil {
			return nil, fmt.Errorf("encode the release of %s: %w", path, err)
		}
		hash, err := hex.DecodeString(image.SHA256)
		if err != nil {
			return nil, errkind.Errorf(errkind.Corrupt, "the hash of %s is not hexadecimal: %w", path, err)
		}
		m.Signed.Targets[path] = &metadata.TargetFiles{Length: image.Size, Hashes: metadata.Hashes{"sha256": hash}, Custom: &custom, Path: path}
	}
	return m, nil
}

// topTargets returns the metadata that delegates to each channel the paths below its folder.
func (r *record) topTargets() (*metadata.Metadata[metadata.TargetsType], error) {
	m := metadata.Targets()
	d := &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
	for _, name := range r.channels() {
		public, err := parsePublic(r.Channels[name].Key)
		if err != nil {
			return nil, fmt.Errorf("channel %s: %w", name, err)
		}
		k := keyOf(public)
		d.Keys[k.id] = k.key
		d.Roles = append(d.Roles, metadata.DelegatedRole{
			Name: name, KeyIDs: []string{k.id}, Threshold: 1, Terminating: true, Paths: []string{name + "/*/*"},
		})
	}
	m.Signed.Delegations = d
	return m, nil
}

// snapshotOf returns the metadata that names one version of each of the drafts.
func snapshotOf(drafts map[string]draft) *metadata.Metadata[metadata.SnapshotType] {
	m := metadata.Snapshot()
	m.Signed.Meta = map[string]*metadata.MetaFiles{}
	for _, role := range slices.Sorted(maps.Keys(drafts)) {
		m.Signed.Meta[role+".json"] = drafts[role].meta()
	}
	return m
}
