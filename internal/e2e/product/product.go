// Package product makes what the end-to-end tests and the demo offer to a host: packages,
// images of good versions, and images with each kind of fault.
//
// Good images come from the same scripts as a release. Bad images are made from the tree of
// a good image, so that they differ in their fault only.
package product

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/rpm"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/linux/ddi"
)

// A Maker makes products below a folder.
type Maker struct {
	root string // of the checkout
	dir  string // of what is made
	cert *x509.Certificate
	key  crypto.Signer
	tree string // of a good image
}

// New returns a maker of products in dir, which signs with the key of packaging/keys.
func New(ctx context.Context, dir string) (*Maker, error) {
	root, err := checkout()
	if err != nil {
		return nil, err
	}
	m := &Maker{root: root, dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var out string
	err = m.exclusively(func() (err error) {
		out, err = m.script(ctx, nil, "packaging/keys")
		return err
	})
	if err != nil {
		return nil, err
	}
	paths := strings.Fields(out)
	if len(paths) != 2 {
		return nil, fmt.Errorf("packaging/keys said %q", out)
	}
	m.cert, m.key, err = readKeys(filepath.Join(root, paths[0]), filepath.Join(root, paths[1]))
	return m, err
}

// checkout returns the folder with go.mod above the working directory.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("not inside a checkout of trident")
}

func readKeys(crt, key string) (*x509.Certificate, crypto.Signer, error) {
	cert, err := decode(crt, x509.ParseCertificate)
	if err != nil {
		return nil, nil, err
	}
	any, err := decode(key, x509.ParsePKCS8PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	signer, ok := any.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s is not a key that signs", key)
	}
	return cert, signer, nil
}

func decode[T any](path string, parse func([]byte) (T, error)) (out T, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return out, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return out, fmt.Errorf("%s is not PEM", path)
	}
	return parse(block.Bytes)
}

func (m *Maker) script(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(m.root, name), args...)
	if !strings.Contains(name, "/") {
		cmd = exec.CommandContext(ctx, name, args...)
	}
	cmd.Dir = m.root
	cmd.Env = append(os.Environ(), append(env, "CGO_ENABLED=0")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", name, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// exclusively calls fn while no other build writes to dist/stage, which all builds share. The
// targets of the Makefile take the same lock.
func (m *Maker) exclusively(fn func() error) error {
	dist := filepath.Join(m.root, "dist")
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dist, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		if err == nil {
			return fn()
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
	}
}

// RPM makes the package of a version and returns its path.
func (m *Maker) RPM(ctx context.Context, version string) (path string, err error) {
	err = m.exclusively(func() error {
		_, err := m.script(ctx, nil, "go", "run", "./packaging/build", "rpm", "-version", version, "-arch", runtime.GOARCH)
		if err != nil {
			return err
		}
		path, err = m.adopt(ctx, filepath.Join(m.root, "dist/rpm", version, "trident-"+version+"-1.x86_64.rpm"))
		return err
	})
	return path, err
}

// Service returns the package with the unit that commits at boot. [Maker.RPM] has to make the
// packages of the version first.
func (m *Maker) Service(ctx context.Context, version string) (string, error) {
	return m.adopt(ctx, filepath.Join(m.root, "dist/rpm", version, "trident-service-"+version+"-1.noarch.rpm"))
}

// Gateway returns the package of the gateway. [Maker.RPM] has to make the packages of the version
// first.
func (m *Maker) Gateway(ctx context.Context, version string) (string, error) {
	return m.adopt(ctx, filepath.Join(m.root, "dist/rpm", version, "trident-gateway-"+version+"-1.x86_64.rpm"))
}

// Image makes the signed image of a good version as a release does.
func (m *Maker) Image(ctx context.Context, version string) (path string, err error) {
	err = m.exclusively(func() error {
		path, err = m.image(ctx, version)
		return err
	})
	return path, err
}

func (m *Maker) image(ctx context.Context, version string) (string, error) {
	dir, err := filepath.Abs(m.dir)
	if err != nil {
		return "", err
	}
	path, err := m.script(ctx, []string{"TRIDENT_KEEP_TREE=1"}, "packaging/sysext", version, runtime.GOARCH, dir)
	if err != nil {
		return "", err
	}
	// The next build, perhaps of another process, removes the tree.
	m.tree = m.dir + ".tree"
	if err := os.RemoveAll(m.tree); err != nil {
		return "", err
	}
	kept := filepath.Join(m.root, "dist/build", strings.TrimSuffix(filepath.Base(path), ".raw"))
	_, err = m.script(ctx, nil, "cp", "-a", kept, m.tree)
	return filepath.Join(m.dir, filepath.Base(path)), err
}

// adopt copies a file into the folder of products. It makes no link, because the next build,
// perhaps of another process, writes to the same file.
func (m *Maker) adopt(ctx context.Context, path string) (string, error) {
	to := filepath.Join(m.dir, filepath.Base(path))
	_, err := m.script(ctx, nil, "cp", "--reflink=auto", "--remove-destination", path, to)
	return to, err
}

// A Change describes how an image differs from a good image.
type Change struct {
	Version string
	// Daemon is the path of a program that replaces tridentd.
	Daemon string
	// Release edits the extension-release.
	Release func(string) string
	// Files are added files: content by path from the root of the tree.
	Files map[string]string
	// Without are removed paths.
	Without []string
	// Arch is the architecture of the partition types; "" stands for x86-64.
	Arch ddi.Arch
	// Unsigned omits the signature. Stranger signs with a key that no host trusts.
	Unsigned, Stranger bool
	// Signer signs instead of the key of the maker; nil does not.
	Signer *Signer
}

// A Signer is a key with its certificate.
type Signer struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// Changed makes the changed image name and returns its path. Image has to be called before.
func (m *Maker) Changed(ctx context.Context, name string, c Change) (string, error) {
	tree := filepath.Join(m.dir, name+".tree")
	if err := os.RemoveAll(tree); err != nil {
		return "", err
	}
	if _, err := m.script(ctx, nil, "cp", "-a", m.tree, tree); err != nil {
		return "", err
	}
	defer os.RemoveAll(tree)
	if err := c.apply(tree); err != nil {
		return "", err
	}
	if c.Arch == "" {
		c.Arch = ddi.AMD64
	}
	path := filepath.Join(m.dir, name+".raw")
	root, err := ddi.Build(ctx, path, ddi.BuildOptions{Tree: tree, Arch: c.Arch, Epoch: time.Unix(0, 0)})
	if err != nil || c.Unsigned {
		return path, err
	}
	by := cmp.Or(c.Signer, &Signer{m.cert, m.key})
	if c.Stranger {
		if by, err = NewSigner("A stranger"); err != nil {
			return "", err
		}
	}
	sig, err := ddi.SignRootHash(root, by.Cert, by.key)
	if err != nil {
		return "", err
	}
	return path, ddi.Attach(path, sig, by.Cert)
}

func (c Change) apply(tree string) error {
	release := filepath.Join(tree, "usr/lib/extension-release.d/extension-release.trident")
	text, err := os.ReadFile(release)
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "SYSEXT_VERSION_ID=") {
			lines[i] = "SYSEXT_VERSION_ID=" + c.Version
		}
	}
	said := strings.Join(lines, "\n")
	if c.Release != nil {
		said = c.Release(said)
	}
	errs := []error{os.WriteFile(release, []byte(said), 0o644)}
	if c.Daemon != "" {
		data, err := os.ReadFile(c.Daemon)
		errs = append(errs, err, os.WriteFile(filepath.Join(tree, "usr/bin/tridentd"), data, 0o755))
	}
	for _, name := range c.Without {
		errs = append(errs, os.RemoveAll(filepath.Join(tree, name)))
	}
	for name, text := range c.Files {
		path := filepath.Join(tree, name)
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	return errors.Join(errs...)
}

// NewSigner makes a key that no host trusts yet.
func NewSigner(name string) (*Signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Signer{cert, key}, err
}

// Daemon builds a program of this tree with a version, and with settings for the linker such
// as "main.fault=hangs".
func (m *Maker) Daemon(ctx context.Context, pkg, version string, settings ...string) (string, error) {
	flags := "-s -w -X github.com/trident-project/trident/internal/version.current=" + version
	for _, s := range settings {
		flags += " -X " + s
	}
	path := filepath.Join(m.dir, "tridentd-"+version)
	_, err := m.script(ctx, nil, "go", "build", "-tags", "grpcnotrace", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", path, pkg)
	return path, err
}

// Good makes an extension image of Trident that works and has that version, and returns its
// path. It changes a copy of the tree of Image, which takes less time than a build.
func (m *Maker) Good(ctx context.Context, version string) (string, error) {
	daemon, err := m.Daemon(ctx, "./cmd/tridentd", version)
	if err != nil {
		return "", err
	}
	return m.Changed(ctx, "trident_"+version, Change{Version: version, Daemon: daemon})
}

// Faulty makes the image of a version whose daemon has a fault; see package faulty.
func (m *Maker) Faulty(ctx context.Context, version, fault string) (string, error) {
	daemon, err := m.Daemon(ctx, "./internal/e2e/faulty", version, "main.fault="+fault)
	if err != nil {
		return "", err
	}
	return m.Changed(ctx, fault, Change{Version: version, Daemon: daemon})
}

// StubFile is the name of the package that [Maker.Stub] makes.
const StubFile = "systemd-stub.rpm"

// Stub makes a package that provides what an RPM distribution's systemd and shell do:
// the guests are Debian, whose programs the RPM database does not know.
func (m *Maker) Stub() (path string, err error) {
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "systemd-stub", Arch: "all", Version: "257", Maintainer: "A <a@example.org>", Description: "Stands for systemd.",
		Overridables: nfpm.Overridables{Provides: []string{"systemd = 257", "/bin/sh"}},
	})
	path = filepath.Join(m.dir, StubFile)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	err = rpm.DefaultRPM.Package(info, f)
	return path, errors.Join(err, f.Close())
}
