package blocks

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/patch"
	"github.com/trident-project/trident/internal/trust"
)

// vendor signs images.
type vendor struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string // the path of the certificate
}

func newVendor(tb testing.TB) vendor {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vendor"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(tb, err)
	cert, err := x509.ParseCertificate(der)
	must(tb, err)
	v := vendor{key, cert, filepath.Join(tb.TempDir(), "vendor.crt")}
	must(tb, os.WriteFile(v.pem, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return v
}

// signer is the check of a host that trusts v.
func (v vendor) signer(tb testing.TB) func([32]byte, *ddi.Signature) (trust.Verified[[32]byte], error) {
	tb.Helper()
	policy, err := trust.LoadFiles(v.pem)
	must(tb, err)
	return func(root [32]byte, sig *ddi.Signature) (trust.Verified[[32]byte], error) {
		return policy.CheckSigner(root, sig, time.Now())
	}
}

// imageOf returns a signed image with one file of that content.
func (v vendor) imageOf(tb testing.TB, content []byte) []byte {
	tb.Helper()
	dir := tb.TempDir()
	must(tb, os.MkdirAll(filepath.Join(dir, "usr"), 0o755))
	must(tb, os.WriteFile(filepath.Join(dir, "usr/file"), content, 0o644))
	path := filepath.Join(dir, "x.raw")
	_, err := ddi.Build(tb.Context(), path, ddi.BuildOptions{Tree: dir, Arch: ddi.AMD64, Epoch: time.Unix(1e9, 0), Key: v.key, Cert: v.cert})
	must(tb, err)
	image, err := os.ReadFile(path)
	must(tb, err)
	return image
}

// noise returns n bytes without repetitions.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = mrand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// changed returns content with every nth block of 4 KiB changed.
func changed(content []byte, nth int) []byte {
	out := bytes.Clone(content)
	for at := 0; at < len(out); at += nth * blockSize {
		out[at+nth] ^= 0xff
	}
	return out
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// server serves files with ranges, and counts the bytes of its answers by path.
type server struct {
	url string

	// An answer may still run when the fetch has ended that asked for it.
	mu       sync.Mutex
	files    map[string][]byte
	limit    func(w http.ResponseWriter, r *http.Request) (answered bool)
	sent     map[string]int64
	requests int
}

func newServer(tb testing.TB, files map[string][]byte) *server {
	tb.Helper()
	s := &server{files: files, sent: map[string]int64{}}
	h := httptest.NewServer(s)
	tb.Cleanup(h.Close)
	s.url = h.URL
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	content, ok := s.files[r.URL.Path]
	limit := s.limit
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+sum(content)[:8]+`"`)
	c := counted{w, s, r.URL.Path}
	if limit != nil && limit(c, r) {
		return
	}
	http.ServeContent(c, r, "", time.Time{}, bytes.NewReader(content))
}

// limited makes limit change requests or answer them; nil ends that.
func (s *server) limited(limit func(w http.ResponseWriter, r *http.Request) (answered bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
}

func (s *server) requested() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *server) serve(path string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = content
}

func (s *server) bytes(path string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[path]
}

type counted struct {
	http.ResponseWriter
	s    *server
	path string
}

func (c counted) Write(p []byte) (int, error) {
	c.s.mu.Lock()
	c.s.sent[c.path] += int64(len(p))
	c.s.mu.Unlock()
	return c.ResponseWriter.Write(p)
}

// rig is a host that fetches /new from a server.
type rig struct {
	*server
	vendor   vendor
	old, new []byte
	want     Want
	part     string
	log      []string
}

// newRig returns a host with an old image, and a server with a new one of which every nth
// block differs.
func newRig(tb testing.TB, size, nth int) *rig {
	tb.Helper()
	v := newVendor(tb)
	content := noise(1, size)
	r := &rig{vendor: v, old: v.imageOf(tb, content), new: v.imageOf(tb, changed(content, nth))}
	r.server = newServer(tb, map[string][]byte{"/new": r.new})
	dir := tb.TempDir()
	r.part = filepath.Join(dir, "new.part")
	must(tb, os.WriteFile(filepath.Join(dir, "old.raw"), r.old, 0o600))
	r.want = Want{Source: fetch.Source{URL: r.url + "/new"}, Signer: v.signer(tb), Old: []Old{{"1.0.0", filepath.Join(dir, "old.raw")}}}
	r.want.Limits.Attempts = 1
	return r
}

func (r *rig) withPatch(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	must(tb, patch.Make(tb.Context(), r.old, r.new, &b, nil))
	r.offer(b.Bytes())
	return b.Bytes()
}

// offer makes the server serve that patch.
func (r *rig) offer(b []byte) {
	r.serve("/patch", b)
	r.want.Source.Patches = []fetch.Patch{{From: "1.0.0", URL: r.url + "/patch", Size: int64(len(b)), SHA256: sum(b)}}
}

func (r *rig) get(ctx context.Context) (fetch.Result, error) {
	return Download(ctx, r.want, r.part, nil, func(line string) { r.log = append(r.log, line) })
}

// mustGet fails unless the part becomes the new image.
func (r *rig) mustGet(tb testing.TB) {
	tb.Helper()
	result, err := r.get(tb.Context())
	if err != nil {
		tb.Fatalf("%v\n%s", err, strings.Join(r.log, "\n"))
	}
	got, err := os.ReadFile(r.part)
	must(tb, err)
	if !bytes.Equal(got, r.new) || result.Size != int64(len(r.new)) || result.SHA256 != sum(r.new) {
		tb.Fatalf("%d bytes of %d, result %+v, log:\n%s", len(got), len(r.new), result, strings.Join(r.log, "\n"))
	}
	before := r.requested()
	again, err := fetch.Download(tb.Context(), r.want.Source, r.part, r.want.Limits, nil, nil)
	if err != nil || again != result || r.requested() != before {
		tb.Errorf("the record is not that of a whole download: %+v, %v", again, err)
	}
}

func (r *rig) wantError(tb testing.TB, kind errkind.Kind, words string) {
	tb.Helper()
	_, err := r.get(tb.Context())
	if errkind.Of(err) != kind || !strings.Contains(fmt.Sprint(err), words) {
		tb.Errorf("%v, want kind %s and %q\n%s", err, kind, words, strings.Join(r.log, "\n"))
	}
}
