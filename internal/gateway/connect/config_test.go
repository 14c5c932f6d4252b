package connect

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/connect/connecttest"
)

func b64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// upstreamConfig has the keys, the order and the forms in which upstream's netlaunch writes
// the file: modes are decimal, certificates base64 of PEM.
func upstreamConfig(client connecttest.Pair, server []byte) string {
	return fmt.Sprintf(`clientAddress: 192.0.2.7:38211
serverAddress: /run/trident/trident.sock
additionalFiles:
    - downloadUrl: http://192.0.2.7:4000/trident-8e1e1b0c
      destination: /usr/bin/trident
      mode: 493
rcpClientTls:
    certData: %s
    keyData: %s
    serverCert: %s
`, b64(client.Certificate), b64(client.Key), b64(server))
}

func TestUpstreamsConfigurationIsReadAsItIs(t *testing.T) {
	host, listener := connecttest.SelfSigned(t), connecttest.SelfSigned(t, ServerName)
	c, warnings, err := Parse([]byte(upstreamConfig(host, listener.Certificate)))
	if err != nil {
		t.Fatal(err)
	}
	if c.ClientAddress != "192.0.2.7:38211" || c.Socket != "/run/trident/trident.sock" || c.TLS.ServerName != "reverseconnectproxy" {
		t.Errorf("%+v", c)
	}
	if string(c.TLS.Certificate) != string(host.Certificate) || string(c.TLS.Key) != string(host.Key) || string(c.TLS.CA) != string(listener.Certificate) {
		t.Error("the certificates differ from those in the file")
	}
	if f := c.Files[0]; f.URL != "http://192.0.2.7:4000/trident-8e1e1b0c" || f.Destination != "/usr/bin/trident" || f.Mode != 0o755 {
		t.Errorf("%+v", f)
	}
	if len(warnings) != 1 || !strings.Contains(string(warnings[0]), "additionalFiles[0]: nothing proves") {
		t.Errorf("warnings %q", warnings)
	}
}

// The rest of a patched placeholder is a comment.
func TestAPatchedConfigurationIsRead(t *testing.T) {
	c, _, err := Parse([]byte("serverAddress: /x.sock\n" + strings.Repeat("#", 1000) + "\n"))
	if err != nil || c.Socket != "/x.sock" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestOurKeysAreRead(t *testing.T) {
	c, warnings, err := Parse([]byte(`
clientAddress: fleet.example:7443
proxy: http://proxy.example:3128
backoff: {min: 2s, max: 5m}
rcpClientTls: {certFile: /a.crt, keyFile: /a.key, caFile: /ca.crt, serverName: fleet.example}
additionalFiles:
- {downloadUrl: 'https://fleet.example/c', destination: /etc/c, mode: 0600, sha256: ` + strings.Repeat("aB", 32) + `, maxBytes: 10}
`))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if c.Socket != DefaultSocket || c.Proxy != "http://proxy.example:3128" || c.MinPause != 2*time.Second || c.MaxPause != 5*time.Minute ||
		c.TLS.CertificateFile != "/a.crt" || c.TLS.KeyFile != "/a.key" || c.TLS.CAFile != "/ca.crt" || c.TLS.ServerName != "fleet.example" {
		t.Errorf("%+v", c)
	}
	if f := c.Files[0]; f.Mode != 0o600 || f.MaxBytes != 10 || len(f.SHA256) != 64 {
		t.Errorf("%+v", f)
	}
}

func TestAnUnknownKeyIsOnlyAWarning(t *testing.T) {
	_, warnings, err := Parse([]byte("serverAdress: /x\nother: {a: 1}\nserverAddress: null\n"))
	if err != nil || len(warnings) != 2 {
		t.Fatal(err, warnings)
	}
	if got := string(warnings[0]); got != `line 1: serverAdress: is not a setting, and is ignored: did you mean serverAddress?` {
		t.Error(got)
	}
}

// Upstream's agent resolves aliases, so a file of it may have them.
func TestAnAliasIsResolved(t *testing.T) {
	c, warnings, err := Parse([]byte("rcpClientTls: {certFile: &a /a, keyFile: *a, caFile: *a}\nbackoff: &b {min: 2s, max: 3s}\nbackof: *b\n"))
	if err != nil || c.TLS.KeyFile != "/a" || c.TLS.CAFile != "/a" || c.MaxPause != 3*time.Second || len(warnings) != 1 {
		t.Errorf("%+v, %q, %v", c, warnings, err)
	}
}

func TestAMalformedConfigurationNamesKeyAndLine(t *testing.T) {
	host, listener := connecttest.SelfSigned(t), connecttest.SelfSigned(t, ServerName)
	good := "rcpClientTls: {certFile: /a, keyFile: /b, caFile: /c}\n"
	secret := b64([]byte("secret"))
	for name, c := range map[string]struct{ text, want string }{
		"not YAML":        {"a: [", "the text is not YAML"},
		"a list":          {"- a", "line 1: the file is not a mapping"},
		"twice":           {"proxy: none\nproxy: none", "line 2: proxy: is there twice"},
		"no port":         {"clientAddress: host\n" + good, `clientAddress: "host" must be host:port`},
		"empty port":      {"clientAddress: 'host:'\n" + good, `must be host:port`},
		"relative socket": {"serverAddress: a.sock", `serverAddress: "a.sock" must be the absolute path`},
		"long socket":     {"serverAddress: /" + strings.Repeat("a", 107), "serverAddress: the path has 108 bytes, and that of a socket can have 107"},
		"list as text":    {"\nserverAddress: [a]", "line 2: serverAddress: is not a text"},
		"control":         {`serverAddress: "/a\nb"`, "has control characters"},
		"proxy":           {"proxy: socks5://x", "proxy: must be the URL of an HTTP proxy"},
		"backoff":         {"backoff:\n  min: soon", "line 2: backoff.min: must be a time from 100ms to 1h"},
		"backoff order":   {"backoff: {min: 2m}", "backoff.max: 25s is less than backoff.min, 2m0s"},
		"mode text":       {"additionalFiles:\n- {downloadUrl: https://a/, destination: /a, mode: rw}", "line 2: additionalFiles[0].mode: must be a number such as 0755"},
		"mode decimal":    {"additionalFiles:\n- {downloadUrl: https://a/, destination: /a, mode: 755}", "755 is more than 0777 (511)"},
		"file URL":        {"additionalFiles:\n- {downloadUrl: 'ftp://a/', destination: /a}", "line 2: additionalFiles[0]: downloadUrl must be an http or https URL"},
		"file path":       {"additionalFiles:\n- {downloadUrl: 'https://a/', destination: /a/../b}", "line 2: additionalFiles[0]: destination must be an absolute path"},
		"file hash":       {"additionalFiles:\n- {downloadUrl: 'https://a/', destination: /a, sha256: abc}", "line 2: additionalFiles[0]: sha256 must be 64 hexadecimal digits"},
		"file size":       {"additionalFiles:\n- {downloadUrl: 'https://a/', destination: /a, maxBytes: 0}", "line 2: additionalFiles[0].maxBytes: must be a number of bytes above 0"},
		"no list":         {"additionalFiles: 3", "line 1: additionalFiles: must be a list of at most 64 files"},
		"no certificate":  {"clientAddress: a:1", "rcpClientTls.certData: is missing (or certFile)"},
		"no key":          {"clientAddress: a:1\nrcpClientTls: {certFile: /a}", "rcpClientTls.keyData: is missing (or keyFile)"},
		"both":            {"clientAddress: a:1\nrcpClientTls: {certFile: /a, certData: " + secret + "}", "rcpClientTls.certFile: is there beside certData"},
		"relative file":   {"clientAddress: a:1\nrcpClientTls: {certFile: a, keyFile: /b, caFile: /c}", "rcpClientTls.certFile: must be an absolute path"},
		"not base64":      {"rcpClientTls:\n  keyData: '%secret%'", "line 2: rcpClientTls.keyData: must be base64 of PEM"},
		"bare PEM":        {"rcpClientTls:\n  keyData: |\n    -----BEGIN PRIVATE KEY-----secret", "line 2: rcpClientTls.keyData: is PEM, and must be base64 of PEM"},
		"key in a list":   {"rcpClientTls:\n  keyData: [secret]", "line 2: rcpClientTls.keyData: is not a text"},
		"other key": {
			fmt.Sprintf("clientAddress: a:1\nrcpClientTls: {certData: %s, keyData: %s, serverCert: %s}", b64(host.Certificate), b64(listener.Key), b64(listener.Certificate)),
			"rcpClientTls: the certificate and key of this host: tls: private key does not match public key",
		},
		"no authority": {
			fmt.Sprintf("clientAddress: a:1\nrcpClientTls: {certData: %s, keyData: %s, serverCert: %s}", b64(host.Certificate), b64(host.Key), secret),
			"rcpClientTls: the certificate of the listener: no certificate in PEM",
		},
		"two documents": {"proxy: none\n---\nproxy: none", "line 2: a second document begins"},
		"too large":     {strings.Repeat("#", maxConfig+1), "the file has more than 1048576 bytes"},
	} {
		_, _, err := Parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v\n\tand want %s", name, err, c.want)
		}
		if kind := errkind.Of(err); kind != errkind.Invalid && kind != errkind.TooLarge {
			t.Errorf("%s: kind %s", name, kind)
		}
	}
}

func TestTheConfigurationIsFoundInOrder(t *testing.T) {
	root := t.TempDir()
	if _, err := Find(root, ""); errkind.Of(err) != errkind.NotFound || errkind.Hint(err) == "" {
		t.Error(err)
	}
	for _, path := range []string{UpstreamConfig, OwnConfig} {
		at := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Find(root, ""); got != at || err != nil {
			t.Errorf("found %s, %v; want %s", got, err, at)
		}
	}
	if got, _ := Find(root, "/named"); got != "/named" {
		t.Error(got)
	}
}

func TestAKeyThatOthersMayReadIsAWarning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	host := connecttest.SelfSigned(t)
	if err := os.WriteFile(path, []byte(upstreamConfig(host, host.Certificate)), 0o644); err != nil {
		t.Fatal(err)
	}
	_, warnings, err := Read(path)
	if err != nil || !strings.Contains(fmt.Sprint(warnings), "has a private key, and other users may read it (mode 0644)") {
		t.Error(err, warnings)
	}
	if _, _, err := Read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Error(err)
	}
	if _, _, err := Read(path + "x"); err == nil {
		t.Error("a missing file is read")
	}
	if err := os.WriteFile(path, []byte("a: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("clientAddress: a:1\nrcpClientTls: {certFile: /a, keyFile: /b, caFile: /c}\nadditionalFiles: [{downloadUrl: 'https://a/', destination: /a, mode: 0755}]\nbackoff: {min: 1s}\n"))
	f.Add([]byte("a: &a [*a]\nb: *a"))
	f.Add([]byte("rcpClientTls: &x {certData: YQ==}\nbackoff: *x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := Parse(data)
		if err != nil {
			if kind := errkind.Of(err); kind != errkind.Invalid && kind != errkind.TooLarge {
				t.Errorf("kind %s of %v", kind, err)
			}
			return
		}
		if !filepath.IsAbs(c.Socket) || len(c.Socket) > maxSocketPath || c.MinPause <= 0 || c.MaxPause < c.MinPause || len(c.Files) > maxFiles {
			t.Errorf("%+v", c)
		}
		for _, file := range c.Files {
			if file.Mode > 0o777 || !filepath.IsAbs(file.Destination) || file.MaxBytes < 1 {
				t.Errorf("%+v", file)
			}
		}
	})
}
