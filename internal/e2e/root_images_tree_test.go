//go:build root

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// epoch is the age of every file in the images.
const epoch = 1_700_000_000

// images is what the tests of this file compare: a tree, a key, and our image.
type images struct {
	dir, tree, raw string
	key            *rsa.PrivateKey
	cert           *x509.Certificate
	image          *ddi.Image
}

// tool skips the test when a program is not there; CI installs them all.
func tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	tool(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func makeImages(t *testing.T, compress bool) *images {
	t.Helper()
	i := &images{dir: t.TempDir()}
	i.tree, i.raw = filepath.Join(i.dir, "tree"), filepath.Join(i.dir, "trident.raw")
	i.makeTree(t)
	i.makeKey(t)
	root, err := ddi.Build(t.Context(), i.raw, ddi.BuildOptions{Tree: i.tree, Arch: ddi.AMD64, Epoch: time.Unix(epoch, 0), Compress: compress})
	must(t, err)
	sig, err := ddi.SignRootHash(root, i.cert, i.key)
	must(t, err)
	must(t, ddi.Attach(i.raw, sig, i.cert))
	i.image = openImage(t, i.raw)
	return i
}

func openImage(t *testing.T, path string) *ddi.Image {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	must(t, err)
	m, err := ddi.Open(f, info.Size())
	must(t, err)
	return m
}

// makeTree makes a tree like that of our own image, with a program that is long
// enough for the hash tree to have two levels.
func (i *images) makeTree(t *testing.T) {
	t.Helper()
	template, err := os.ReadFile("../../sysext/extension-release.trident.in")
	must(t, err)
	release := strings.NewReplacer("@ARCH@", "x86-64", "@VERSION@", "2.0.0").Replace(string(template))
	program := make([]byte, 3_000_000)
	for n := range program {
		program[n] = byte(n * n >> 7)
	}
	for name, content := range map[string]string{
		"usr/bin/tridentd": string(program),
		"usr/lib/extension-release.d/extension-release.trident": release,
		"usr/lib/systemd/system/tridentd.socket":                "[Socket]\nListenStream=/run/trident/trident.sock\n",
		"usr/share/doc/empty":                                   "",
		"usr/share/doc/block":                                   string(program[:4096]),
		"etc/not-in-an-extension":                               "x",
	} {
		p := filepath.Join(i.tree, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(content), 0o644))
	}
	must(t, os.Chmod(filepath.Join(i.tree, "usr/bin/tridentd"), 0o755))
	must(t, os.Symlink("tridentd", filepath.Join(i.tree, "usr/bin/trident")))
	// Whose files these are, and how old, must not show in the image.
	must(t, os.Lchown(filepath.Join(i.tree, "usr/share/doc/empty"), 1234, 5678))
	must(t, os.Chtimes(filepath.Join(i.tree, "usr/share"), time.Time{}, time.Now()))
}

func (i *images) makeKey(t *testing.T) {
	t.Helper()
	var err error
	i.key, err = rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &i.key.PublicKey, i.key)
	must(t, err)
	i.cert, err = x509.ParseCertificate(der)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(i.key)
	must(t, err)
	for name, block := range map[string]*pem.Block{
		"key": {Type: "PRIVATE KEY", Bytes: pkcs8}, "crt": {Type: "CERTIFICATE", Bytes: der},
	} {
		must(t, os.WriteFile(filepath.Join(i.dir, "mkosi."+name), pem.EncodeToMemory(block), 0o600))
	}
}

// part writes partition n of our image, from 0 on, to a file of its own.
func (i *images) part(t *testing.T, n int) string {
	t.Helper()
	p := i.image.Table().Partitions[n]
	path := filepath.Join(i.dir, p.Name)
	must(t, os.WriteFile(path, content(t, i.raw, p), 0o600))
	return path
}

func content(t *testing.T, raw string, p gpt.Partition) []byte {
	t.Helper()
	b, err := os.ReadFile(raw)
	must(t, err)
	return b[p.Offset() : p.Offset()+p.Size()]
}
