package images

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/patch"
	"github.com/trident-project/trident/internal/rescue"
)

// vendor signs images of Trident.
type vendor struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newVendor(t *testing.T) vendor {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vendor"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return vendor{key, cert}
}

// image returns a signed image of 1 MiB, in which each block differs from that of another
// version.
func (v vendor) image(t *testing.T, version byte) []byte {
	content := make([]byte, 1<<20)
	_, _ = mrand.NewChaCha8([32]byte{}).Read(content)
	for at := 0; at < len(content); at += 4096 {
		content[at+int(version)] ^= version
	}
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "usr"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "usr/file"), content, 0o644))
	path := filepath.Join(dir, "x.raw")
	_, err := ddi.Build(t.Context(), path, ddi.BuildOptions{Tree: dir, Arch: ddi.AMD64, Epoch: time.Unix(1e9, 0), Key: v.key, Cert: v.cert})
	must(t, err)
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// storeTrusting returns the store of a host that trusts v, with one image.
func storeTrusting(t *testing.T, v vendor, version string, image []byte) *Store {
	root := t.TempDir()
	certs := filepath.Join(root, "usr/lib/trident/trust.d")
	must(t, os.MkdirAll(certs, 0o755))
	must(t, os.WriteFile(filepath.Join(certs, "v.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.cert.Raw}), 0o644))
	must(t, os.MkdirAll(filepath.Join(root, rescue.Dir), 0o755))
	s := &Store{Root: root, Now: time.Now, Touch: func(_ string, change func() error) error { return change() }}
	must(t, os.WriteFile(s.Path(version), image, 0o644))
	return s
}

func TestAnImageComesByAPatchForTheOneInTheStore(t *testing.T) {
	t.Parallel()
	v := newVendor(t)
	old, image := v.image(t, 1), v.image(t, 2)
	var b bytes.Buffer
	must(t, patch.Make(t.Context(), old, image, &b, nil))
	files := map[string][]byte{"/new": image, "/patch": b.Bytes()}
	var sent atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(counted{w, &sent}, r, "", time.Unix(1, 0), bytes.NewReader(files[r.URL.Path]))
	}))
	defer server.Close()
	sum := sha256.Sum256(b.Bytes())
	src := fetch.Source{
		URL: server.URL + "/new", MaxBytes: 200 << 10,
		Patches: []fetch.Patch{{From: "1.0.0", URL: server.URL + "/patch", Size: int64(b.Len()), SHA256: hex.EncodeToString(sum[:])}},
	}
	s := storeTrusting(t, v, "1.0.0", old)
	part := filepath.Join(s.Root, "x.part")
	must(t, s.Fetch(t.Context(), src, part, time.Now(), nil, nil))
	if got, err := os.ReadFile(part); err != nil || !bytes.Equal(got, image) || sent.Load() > 100<<10 {
		t.Errorf("%d bytes, %v; %d bytes were sent", len(got), err, sent.Load())
	}

	other := storeTrusting(t, newVendor(t), "1.0.0", old)
	part, before := filepath.Join(other.Root, "x.part"), sent.Load()
	err := other.Fetch(t.Context(), src, part, time.Now(), nil, nil)
	if errkind.Of(err) != errkind.Untrusted || !strings.Contains(err.Error(), "check signature of image") || sent.Load()-before > 100<<10 {
		t.Errorf("%v after %d bytes", err, sent.Load()-before)
	}
	if err := s.Fetch(t.Context(), src, part, time.Now().Add(2*time.Hour), nil, nil); errkind.Of(err) != errkind.Untrusted {
		t.Errorf("after the end of the certificate: %v", err)
	}
}

type counted struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.sent.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}
