package updates

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/hostinfo"
)

// start is the time at which the tests begin.
func start() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// A publisher makes the metadata of a feed, right or wrong.
type publisher struct {
	t    testing.TB
	dir  string // the feed
	keys map[string]ed25519.PrivateKey
	// rootKeys are the roles whose keys sign the root, in addition to "root".
	oldRootKeys []ed25519.PrivateKey
	root        *metadata.Metadata[metadata.RootType]
	version     int64 // of timestamp, snapshot, targets and the channel
	expires     time.Time
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newPublisher makes a feed whose root is version 1 and expires after a year.
func newPublisher(t testing.TB) *publisher {
	t.Helper()
	p := &publisher{t: t, dir: t.TempDir(), keys: map[string]ed25519.PrivateKey{}, expires: start().Add(7 * 24 * time.Hour)}
	for _, role := range []string{"root", "timestamp", "snapshot", "targets", "stable"} {
		p.keys[role] = newKey(t)
	}
	p.root = metadata.Root(start().Add(365 * 24 * time.Hour))
	p.root.Signed.ConsistentSnapshot = true
	p.setKeys()
	p.publishRoot()
	return p
}

// setKeys makes the keys of p those of the root.
func (p *publisher) setKeys() {
	p.root.Signed.Keys = map[string]*metadata.Key{}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		p.root.Signed.Roles[role] = &metadata.Role{KeyIDs: []string{}, Threshold: 1}
		p.must(p.root.Signed.AddKey(p.public(role), role))
	}
}

// rotate replaces the keys of roles, and publishes the next root, which the old root key
// signs as well.
func (p *publisher) rotate(roles ...string) {
	for _, role := range roles {
		if role == "root" {
			p.oldRootKeys = append(p.oldRootKeys, p.keys[role])
		}
		p.keys[role] = newKey(p.t)
	}
	p.root.Signed.Version++
	p.setKeys()
	p.publishRoot()
	p.oldRootKeys = nil
}

func (p *publisher) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *publisher) public(role string) *metadata.Key {
	key, err := metadata.KeyFromPublicKey(p.keys[role].Public())
	p.must(err)
	return key
}

// sign returns m signed by the keys.
func sign[T metadata.Roles](p *publisher, m *metadata.Metadata[T], keys ...ed25519.PrivateKey) []byte {
	p.t.Helper()
	m.ClearSignatures()
	for _, key := range keys {
		signer, err := signature.LoadSigner(key, crypto.Hash(0))
		p.must(err)
		_, err = m.Sign(signer)
		p.must(err)
	}
	data, err := m.ToBytes(false)
	p.must(err)
	return data
}

func (p *publisher) write(name string, data []byte) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	p.must(os.MkdirAll(filepath.Dir(path), 0o755))
	p.must(os.WriteFile(path, data, 0o600))
}

func (p *publisher) publishRoot() []byte {
	p.t.Helper()
	data := sign(p, p.root, append(p.oldRootKeys, p.keys["root"])...)
	p.write(fmt.Sprintf("tuf/%d.root.json", p.root.Signed.Version), data)
	return data
}

// rootData returns the published root of a version.
func (p *publisher) rootData(version int) string {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, fmt.Sprintf("tuf/%d.root.json", version)))
	p.must(err)
	return string(data)
}

// release is the release of a version for this machine.
func release(version string, change ...func(*feed.Release)) feed.Release {
	sum := sha256.Sum256([]byte(version))
	r := feed.Release{
		Version: version, Architecture: machine(), RootHash: hex.EncodeToString(sum[:]), OS: feed.OS{ID: "testos", VersionID: "1"}, Published: start().Add(-time.Hour),
	}
	for _, do := range change {
		do(&r)
	}
	return r
}

// machine is the architecture of this machine in systemd's words.
func machine() string {
	host, err := hostinfo.Read("/")
	if err != nil {
		panic(err)
	}
	return host.Architecture
}

const imageSize = 50 << 20

// targetsOf returns the metadata of the channel.
func (p *publisher) targetsOf(releases []feed.Release) *metadata.Metadata[metadata.TargetsType] {
	channel := metadata.Targets(p.expires)
	channel.Signed.Version = p.version
	for _, r := range releases {
		custom, err := r.Custom()
		p.must(err)
		sum := sha256.Sum256([]byte("image " + r.Version))
		raw := json.RawMessage(custom)
		channel.Signed.Targets[feed.ImagePath("stable", r.Architecture, r.Version)] = &metadata.TargetFiles{
			Length: imageSize, Hashes: metadata.Hashes{"sha256": sum[:]}, Custom: &raw,
		}
	}
	return channel
}

// publish publishes the next version of all metadata, with these releases in the channel stable.
func (p *publisher) publish(releases ...feed.Release) {
	p.t.Helper()
	p.version++
	channel := sign(p, p.targetsOf(releases), p.keys["stable"])
	targets := metadata.Targets(p.expires)
	targets.Signed.Version = p.version
	key := p.public("stable")
	id, err := key.ID()
	p.must(err)
	targets.Signed.Delegations = &metadata.Delegations{
		Keys:  map[string]*metadata.Key{id: key},
		Roles: []metadata.DelegatedRole{{Name: "stable", KeyIDs: []string{id}, Threshold: 1, Terminating: true, Paths: []string{"stable/*/*"}}},
	}
	p.publishTop(map[string][]byte{"targets.json": sign(p, targets, p.keys["targets"]), "stable.json": channel})
}

// publishTop publishes files of metadata, and a snapshot and a timestamp of them.
func (p *publisher) publishTop(files map[string][]byte) {
	p.t.Helper()
	snapshot := metadata.Snapshot(p.expires)
	snapshot.Signed.Version = p.version
	snapshot.Signed.Meta = map[string]*metadata.MetaFiles{}
	for name, data := range files {
		p.write(fmt.Sprintf("tuf/%d.%s", p.version, name), data)
		snapshot.Signed.Meta[name] = metaOf(p.version, data)
	}
	data := sign(p, snapshot, p.keys["snapshot"])
	p.write(fmt.Sprintf("tuf/%d.snapshot.json", p.version), data)
	p.publishTimestamp(metaOf(p.version, data))
}

func (p *publisher) publishTimestamp(snapshot *metadata.MetaFiles) {
	p.t.Helper()
	timestamp := metadata.Timestamp(p.expires)
	timestamp.Signed.Version = p.version
	timestamp.Signed.Meta["snapshot.json"] = snapshot
	p.write("tuf/timestamp.json", sign(p, timestamp, p.keys["timestamp"]))
}

func metaOf(version int64, data []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(data)
	m := metadata.MetaFile(version)
	m.Length, m.Hashes = int64(len(data)), metadata.Hashes{"sha256": sum[:]}
	return m
}

// copyTo copies the feed.
func (p *publisher) copyTo(dir string) {
	p.t.Helper()
	p.must(os.RemoveAll(dir))
	p.must(os.CopyFS(dir, os.DirFS(p.dir)))
}

// A world is a feed, its server, and a host that runs 1.0.0.
type world struct {
	*publisher
	root     string
	server   *httptest.Server
	handle   func(http.ResponseWriter, *http.Request) bool // in place of the files, if it returns true
	requests []string
	service  *Service
	policy   Policy
	self     Self
	now      time.Time
	log      strings.Builder
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{publisher: newPublisher(t), root: t.TempDir(), now: start()}
	w.server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		w.requests = append(w.requests, r.URL.Path)
		if w.handle == nil || !w.handle(out, r) {
			http.FileServer(http.Dir(w.dir)).ServeHTTP(out, r)
		}
	}))
	t.Cleanup(w.server.Close)
	writeFile(t, filepath.Join(w.root, "etc/os-release"), "ID=testos\nVERSION_ID=1\n")
	writeFile(t, filepath.Join(w.root, "etc/machine-id"), "0123456789abcdef0123456789abcdef\n")
	writeFile(t, filepath.Join(w.root, bakedRoot), w.rootData(1))
	w.policy = Policy{Feed: w.server.URL}
	w.self = Self{Active: "1.0.0", Base: "0.9.0"}
	w.restart()
	return w
}

// restart makes a new service, as after a restart of the daemon.
func (w *world) restart() {
	w.service = New(Config{
		Root: w.root, Version: "1.0.0", Now: func() time.Time { return w.now }, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
		Policy: func(context.Context) (Policy, error) { return w.policy, nil },
		Self:   func(context.Context, Policy) (Self, error) { return w.self, nil },
	})
}

func (w *world) check() Report {
	w.t.Helper()
	r, err := w.service.Check(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// wantOffer checks that version is offered; "" for none.
func (w *world) wantOffer(version string) Report {
	w.t.Helper()
	r := w.check()
	got := ""
	if r.Offer != nil {
		got = r.Offer.Version
	}
	if got != version {
		w.t.Fatalf("got the offer %q, want %q: %+v", got, version, r)
	}
	return r
}

// wantFault checks that nothing is offered, and that the first reason has that kind and
// message.
func (w *world) wantFault(kind Kind, message string) Report {
	w.t.Helper()
	r := w.wantOffer("")
	if len(r.Reasons) == 0 || r.Reasons[0].Kind != kind || !strings.Contains(r.Reasons[0].Message, message) {
		w.t.Fatalf("got the reasons %+v, want %s with %q", r.Reasons, kind, message)
	}
	if _, _, err := w.service.Source(w.t.Context(), ""); err == nil {
		w.t.Error("there is a source for a version that is not offered")
	}
	return r
}

// kinds returns the kinds of the reasons of a version.
func kinds(r Report, version string) (out []Kind) {
	all := r.Others
	if r.Offer != nil {
		all = append(all, *r.Offer)
	}
	for _, one := range all {
		if one.Version == version {
			for _, reason := range one.Reasons {
				out = append(out, reason.Kind)
			}
			return out
		}
	}
	return []Kind{"not in the report"}
}
