package servicing

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// picture is an image that configurations of the tests list.
type picture struct {
	class   extension.Class
	name    string
	version string
	release string // its extension-release
	data    []byte
	sha     string
}

func (p picture) url() string { return "file:///srv/" + p.sha }

// gallery has the images of all tests, made once.
type gallery struct {
	app1, app2, sick, broken, tool, settings, more picture
	trident2, stranger                             picture // Trident's own image, and one that somebody else has signed
	all                                            []picture
	cert                                           string // of the maker of Trident's own image
}

func newGallery(t testing.TB) *gallery {
	t.Helper()
	makeGallery.Do(func() { galleryOfAll = galleryMade(t) })
	if galleryOfAll == nil {
		t.Fatal("the images of the tests could not be made")
	}
	return galleryOfAll
}

// No test changes the images, so that all tests have the same ones.
var (
	makeGallery  sync.Once
	galleryOfAll *gallery
)

func galleryMade(t testing.TB) *gallery {
	g := &gallery{
		app1: sysext(t, "app", "1"), app2: sysext(t, "app", "2"), sick: sysext(t, "app", "sick"), broken: sysext(t, "app", "broken"),
		tool: sysext(t, "tool", "1"), settings: confext(t, "settings", "1"), more: confext(t, "more", "1"),
	}
	g.trident2, g.cert = trident(t, "2.0.0")
	g.stranger, _ = trident(t, "2.1.0")
	g.all = []picture{g.app1, g.app2, g.sick, g.broken, g.tool, g.settings, g.more, g.trident2, g.stranger}
	return g
}

// own is Trident's own image of a version.
func (g *gallery) own(version string) (picture, bool) {
	return g.trident2, version == g.trident2.version
}

// trident is an image of Trident itself, signed by a maker of its own.
func trident(t testing.TB, version string) (p picture, cert string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "maker of " + version},
		// The clock of a synctest bubble stands in the year 2000.
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	release := "ID=_any\nARCHITECTURE=x86-64\nSYSEXT_ID=trident\nSYSEXT_VERSION_ID=" + version + "\nEXTENSION_RELOAD_MANAGER=1\n"
	tree := t.TempDir()
	for name, text := range map[string]string{
		extension.OwnDaemon: daemonText(version), extension.OwnRescuer: "rescuer", extension.OwnRelease: release, "usr/bin/trident": "trident",
	} {
		write(t, filepath.Join(tree, name), text)
	}
	file := filepath.Join(t.TempDir(), "image")
	hosttest.MakeReadable(t, tree)
	options := ddi.BuildOptions{Tree: tree, Arch: ddi.AMD64, Epoch: time.Unix(1, 0), Key: key, Cert: parsed}
	if _, err := ddi.Build(context.Background(), file, options); err != nil {
		t.Fatal(err)
	}
	p = read(t, picture{class: extension.Sysext, name: "trident", version: version, release: release}, file)
	return p, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (g *gallery) by(sha string) (picture, bool) {
	for _, p := range g.all {
		if p.sha == sha {
			return p, true
		}
	}
	return picture{}, false
}

// sysext is a discoverable image.
func sysext(t testing.TB, name, version string) picture {
	t.Helper()
	release := "ID=_any\nSYSEXT_ID=" + name + "\nSYSEXT_VERSION_ID=" + version + "\n"
	tree := t.TempDir()
	write(t, filepath.Join(tree, "usr/lib/extension-release.d/extension-release."+name), release)
	file := filepath.Join(t.TempDir(), "image")
	hosttest.MakeReadable(t, tree)
	if _, err := ddi.Build(context.Background(), file, ddi.BuildOptions{Tree: tree, Arch: ddi.AMD64, Epoch: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	return read(t, picture{class: extension.Sysext, name: name, version: version, release: release}, file)
}

// confext is a file system without partitions.
func confext(t testing.TB, name, version string) picture {
	t.Helper()
	release := "ID=_any\nCONFEXT_ID=" + name + "\nCONFEXT_VERSION_ID=" + version + "\n"
	file := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := erofs.Create(f)
	if err := w.CopyFrom(fstest.MapFS{"etc/extension-release.d/extension-release." + name: {Data: []byte(release), Mode: 0o644}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return read(t, picture{class: extension.Confext, name: name, version: version, release: release}, file)
}

func read(t testing.TB, p picture, file string) picture {
	t.Helper()
	var err error
	if p.data, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384(p.data)
	p.sha = hex.EncodeToString(sum[:])
	return p
}

func write(t testing.TB, file, text string) { t.Helper(); hosttest.Write(t, file, text) }
