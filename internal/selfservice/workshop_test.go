package selfservice

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// behaviour is how a version of tridentd behaves once it is started.
type behaviour string

const (
	healthy     behaviour = "healthy"
	exits       behaviour = "exits"       // at once, again and again
	hangs       behaviour = "hangs"       // before it is ready
	lies        behaviour = "lies"        // about its version
	crashes     behaviour = "crashes"     // a moment after it was ready
	unstartable behaviour = "unstartable" // its unit fails
)

// workshop makes signed images, each once.
type workshop struct {
	dir  string
	cert *x509.Certificate
	key  *rsa.PrivateKey
	mu   sync.Mutex
	made map[string]string

	compress bool // the images
}

// theWorkshop is shared by the tests of a run: to make its key and its images takes longer
// than most of them. Nobody changes what it has made. TestMain removes its folder.
var theWorkshop struct {
	*workshop
	sync.Mutex
}

func newWorkshop(t testing.TB) *workshop {
	theWorkshop.Lock()
	defer theWorkshop.Unlock()
	if theWorkshop.workshop == nil {
		theWorkshop.workshop = newStranger(t)
		dir, err := os.MkdirTemp("", "trident-workshop-")
		if err != nil {
			t.Fatal(err)
		}
		theWorkshop.dir = dir
	}
	return theWorkshop.workshop
}

// newStranger is a workshop with a key of its own.
func newStranger(t testing.TB) *workshop {
	// The clock of a synctest bubble stands in the year 2000.
	return newWorkshopWithin(t, time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Now().Add(10*365*24*time.Hour))
}

// newWorkshopWithin is a workshop whose certificate has these dates.
func newWorkshopWithin(t testing.TB, notBefore, notAfter time.Time) *workshop {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "workshop"},
		NotBefore: notBefore, NotAfter: notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &workshop{dir: t.TempDir(), cert: cert, key: key, made: map[string]string{}}
}

// image returns the path of a signed image.
func (w *workshop) image(t testing.TB, version string, b behaviour) string {
	return w.variant(t, version, b, "", func(string) {})
}

// variant returns the path of a signed image whose tree was changed.
func (w *workshop) variant(t testing.TB, version string, b behaviour, variant string, change func(tree string)) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := version + "-" + string(b) + variant
	if path, ok := w.made[name]; ok {
		return path
	}
	tree := filepath.Join(w.dir, name)
	write(t, filepath.Join(tree, extension.OwnDaemon), daemonText(version, b), 0o755)
	write(t, filepath.Join(tree, "usr/bin/trident"), "trident "+version, 0o755)
	write(t, filepath.Join(tree, extension.OwnRescuer), "rescuer "+version, 0o755)
	write(t, filepath.Join(tree, extension.OwnRelease), fmt.Sprintf(
		"ID=_any\nARCHITECTURE=x86-64\nSYSEXT_ID=trident\nSYSEXT_VERSION_ID=%s\nEXTENSION_RELOAD_MANAGER=1\n", version), 0o644)
	change(tree)
	path := w.build(t, tree, ddi.AMD64)
	w.made[name] = path
	return path
}

// build makes a signed image of a tree.
func (w *workshop) build(t testing.TB, tree string, arch ddi.Arch) string {
	t.Helper()
	path := tree + "." + string(arch) + ".raw"
	hosttest.MakeReadable(t, tree)
	root, err := ddi.Build(context.Background(), path, ddi.BuildOptions{Tree: tree, Arch: arch, Epoch: time.Unix(1, 0), Compress: w.compress})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := ddi.SignRootHash(root, w.cert, w.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := ddi.Attach(path, sig, w.cert); err != nil {
		t.Fatal(err)
	}
	return path
}

func daemonText(version string, b behaviour) string {
	return fmt.Sprintf("version=%s behaviour=%s", version, b)
}

func write(t testing.TB, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(hosttest.MkdirAll(filepath.Dir(path)), os.WriteFile(path, []byte(text), mode)); err != nil {
		t.Fatal(err)
	}
}
