package setup_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/gateway/identity"
	"github.com/trident-project/trident/internal/gateway/setup"
)

func run(t *testing.T, root string, names ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := setup.Run(setup.Options{Root: root, Names: names, Listen: "127.0.0.1:7443", GID: os.Getegid(), Out: &out})
	return out.String(), err
}

func content(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		info, ierr := d.Info()
		if ierr != nil {
			return ierr
		}
		name, _ := filepath.Rel(root, path)
		out[name] = info.Mode().Perm().String() + " " + string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSetupMakesWhatServeNeedsAndKeepsIt(t *testing.T) {
	root := t.TempDir()
	out, err := run(t, root, "host1.example.org")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"systemctl enable --now trident-gateway.service",
		"trident hosts add host1.example.org tls://host1.example.org:7443 --ca ca.crt --certificate admin.crt --key admin.key",
		"which other machines cannot reach",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	first := content(t, root)
	for name, mode := range map[string]string{
		"etc/trident/gateway.yaml": "-rw-r--r--", "etc/trident/gateway/ca.crt": "-rw-r--r--", "etc/trident/gateway/ca.key": "-rw-------",
		"etc/trident/gateway/server.crt": "-rw-r--r--", "etc/trident/gateway/server.key": "-rw-r-----",
		"etc/trident/gateway/clients/admin.crt": "-rw-r--r--", "etc/trident/gateway/clients/admin.key": "-rw-------",
	} {
		if !strings.HasPrefix(first[name], mode+" ") {
			t.Errorf("%s: %.20s", name, first[name])
		}
	}
	if len(first) != 7 {
		t.Errorf("%d files", len(first))
	}
	if out, err = run(t, root, "host1.example.org"); err != nil || strings.Contains(out, "made") {
		t.Errorf("the second time: %v\n%s", err, out)
	}
	for name, text := range content(t, root) {
		if first[name] != text {
			t.Errorf("%s has changed", name)
		}
	}
	// Another name needs another certificate of the gateway, and nothing else.
	if out, err = run(t, root, "host1.example.org", "192.0.2.7"); err != nil || strings.Count(out, "made") != 1 {
		t.Errorf("with another name: %v\n%s", err, out)
	}
	keys := filepath.Join(root, "etc/trident/gateway")
	ca, err := os.ReadFile(filepath.Join(keys, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	server, err := tls.LoadX509KeyPair(filepath.Join(keys, "server.crt"), filepath.Join(keys, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"host1.example.org", "192.0.2.7", "localhost", "127.0.0.1"} {
		if _, err := server.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	admin, err := tls.LoadX509KeyPair(filepath.Join(keys, "clients/admin.crt"), filepath.Join(keys, "clients/admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	who, err := identity.FromCertificate(admin.Leaf, identity.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(filepath.Join(root, "etc/trident/gateway.yaml"))
	c, err := config.Parse(text)
	if err != nil || c.Policy().Rights(who).String() != "read, operate, secret, admin" {
		t.Errorf("%s has %s, %v", who, c.Policy().Rights(who), err)
	}
}

func TestWhatSetupRefuses(t *testing.T) {
	for _, names := range [][]string{nil, {""}, {"a b"}, {"user@host"}, {"host:1"}, {"*.example.org"}} {
		root := t.TempDir()
		if _, err := run(t, root, names...); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%q: %v", names, err)
		}
		if n := len(content(t, root)); n != 0 {
			t.Errorf("%q: %d files were made", names, n)
		}
	}
	if err := setup.Run(setup.Options{Root: t.TempDir(), Names: []string{"a"}, Listen: "7443", Out: &bytes.Buffer{}}); errkind.Of(err) != errkind.Invalid {
		t.Errorf("an address without a port: %v", err)
	}
	if err := setup.Run(setup.Options{Root: t.TempDir(), Names: []string{"a"}, Listen: "127.0.0.1:99999", Out: &bytes.Buffer{}}); errkind.Of(err) != errkind.Invalid || errkind.Hint(err) == "" {
		t.Errorf("a port that does not exist: %v", err)
	}
	for name, text := range map[string]string{"ca.crt": "x", "ca.key": "x", "server.key": "x", "clients/admin.crt": "x"} {
		root := t.TempDir()
		if _, err := run(t, root, "a"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "etc/trident/gateway", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, root, "a"); errkind.Of(err) != errkind.Corrupt || errkind.Hint(err) == "" {
			t.Errorf("a broken %s: %v", name, err)
		}
	}
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "etc"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, root, "a"); err == nil {
		t.Error("a folder below a file was made")
	}
}
