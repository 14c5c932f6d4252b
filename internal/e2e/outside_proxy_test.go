//go:build outside

package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An authority is a private one: a certificate and its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// issue returns a certificate and its key, one after the other, for a server.
func (a authority) issue(t *testing.T, host string, until time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// serveTLS starts nginx with a certificate of that authority on port 443, and with an
// expired one on port 8443; port 80 speaks http.
func serveTLS(t *testing.T, n *network, a authority) {
	t.Helper()
	n.write("/etc/nginx/good.pem", a.issue(t, "images.example", time.Now().Add(time.Hour)))
	n.write("/etc/nginx/expired.pem", a.issue(t, "images.example", time.Now().Add(-time.Hour)))
	n.write("/etc/nginx/sites-enabled/default", `server {
	listen 80;
	listen 443 ssl;
	root /var/www/html;
	ssl_certificate good.pem;
	ssl_certificate_key good.pem;
}
server {
	listen 8443 ssl;
	root /var/www/html;
	ssl_certificate expired.pem;
	ssl_certificate_key expired.pem;
}
`)
	n.sh("install -m 644 " + built(t).image + " /var/www/html/trident.raw; install -m 644 " + anOSImage(t).path + " /var/www/html/debian.cosi; mkdir -p /var/log/nginx")
	n.start("127.0.0.1:443", "nginx", "-g", "daemon off;")
}

// stageAndInspect gets an extension by tridentd and an image by trident, and checks both
// against a verdict. The requests are those that count says.
func stageAndInspect(h *host, env []string, base string, tool []string, want verdict, count func() int) {
	t := h.t
	t.Helper()
	count()
	r := h.run("self", "stage", base+"/trident.raw")
	want.check(t, "self stage", r, count())
	all := r.String() + h.log.String()
	if r.code == 0 {
		if r := h.run("self", "remove", outsideNext); r.code != 0 {
			t.Error(r)
		}
	}
	r = h.tool(env, append(append([]string{"image", "inspect"}, tool...), base+"/debian.cosi")...)
	want.check(t, "image inspect", r, count())
	if strings.Contains(all+r.String(), "s3cret") {
		t.Errorf("the password is shown:\n%s%s", all, r)
	}
}

// trustCA writes certificates into the folder of docs/images.md.
func (h *host) trustCA(a authority) {
	h.t.Helper()
	dir := filepath.Join(h.dir, "etc/trident/ca.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "site.crt"), []byte(a.pem()), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func TestAServersCertificateIsOfAPrivateAuthority(t *testing.T) {
	t.Parallel()
	site, stranger := newAuthority(t, "Site"), newAuthority(t, "Stranger")
	n := newNetwork(t, hosts...)
	serveTLS(t, n, site)
	n.write("/etc/site.pem", site.pem())
	n.write("/etc/stranger.pem", stranger.pem())
	good443, expired, plain := newDoor(n, "127.0.0.1:443"), newDoor(n, "127.0.0.1:8443"), newDoor(n, "127.0.0.1:80")
	for _, c := range []struct {
		name    string
		host    string
		server  *door
		trusted *authority
		tool    []string
		want    verdict
	}{
		{"that is trusted", "images.example", good443, &site, []string{"--ca", "/etc/site.pem"}, good},
		{"that is not trusted", "images.example", good443, nil, nil, verdict{2, "not accepted: .*unknown authority\nhint: .*/etc/trident/ca.d.*--ca", 1}},
		{"and another is trusted", "images.example", good443, &stranger, []string{"--ca", "/etc/stranger.pem"}, verdict{2, "not accepted: .*unknown authority", 1}},
		{"and has expired", "images.example", expired, &site, []string{"--ca", "/etc/site.pem"}, verdict{2, "not accepted: .*expired.*\nhint: Compare the clock", 1}},
		{"and is another server's", "other.example", good443, &site, []string{"--ca", "/etc/site.pem"}, verdict{2, "not accepted: .*images.example, not other.example\nhint: Name the server", 1}},
		{"and it speaks http", "images.example", plain, &site, []string{"--ca", "/etc/site.pem"}, verdict{2, "answers in http, not in https.*\nhint: Check scheme and port", 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(n.with(t))
			if c.trusted != nil {
				h.trustCA(*c.trusted)
			}
			stageAndInspect(h, nil, "https://"+c.host+c.server.port(), c.tool, c.want, c.server.count)
		})
	}
	t.Run("and http is asked for", func(t *testing.T) {
		want := verdict{2, "400", 1}
		stageAndInspect(newHost(n.with(t)), nil, "http://images.example"+good443.port(), nil, want, good443.count)
	})
}

func TestImagesComeThroughAProxy(t *testing.T) {
	t.Parallel()
	site := newAuthority(t, "Site")
	for _, proxy := range []struct {
		name, config string
	}{
		{"that serves everybody", ""},
		{"that wants a password", `auth_param basic program /usr/lib/squid/basic_ncsa_auth /etc/squid/passwd
acl known proxy_auth REQUIRED
http_access deny !known
`},
	} {
		t.Run(proxy.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, hosts...)
			serveTLS(t, n, site)
			n.write("/etc/site.pem", site.pem())
			n.write("/etc/squid/passwd", htpasswd)
			if proxy.config != "" {
				n.write("/etc/squid/conf.d/auth.conf", proxy.config)
			}
			n.sh("mkdir -p /var/log/squid /var/spool/squid && chown proxy /var/log/squid")
			n.start("127.0.0.1:3128", "squid", "-N")
			// The log has a line for each request, once it has ended.
			lines := 0
			asked := func() int {
				all := strings.Count(n.read("/var/log/squid/access.log"), "\n")
				defer func() { lines = all }()
				return all - lines
			}
			login := map[bool]string{true: "ann:s3cret@"}[proxy.config != ""]
			for _, c := range []struct {
				name, env, base string
				want            verdict
				seen            bool // by the proxy
			}{
				{"https", "HTTPS_PROXY=http://" + login + "127.0.0.1:3128", "https://images.example", good, true},
				{"http", "HTTP_PROXY=http://" + login + "127.0.0.1:3128", "http://images.example", good, true},
				{"not for this host", "HTTPS_PROXY=http://127.0.0.1:1 NO_PROXY=.example", "https://images.example", good, false},
				{"https to a port that it refuses", "HTTPS_PROXY=http://" + login + "127.0.0.1:3128", "https://images.example:8443",
					verdict{2, "images.example:8443 through the proxy http://127.0.0.1:3128: the proxy refuses the connection: 403 Forbidden\nhint: The proxy is set by", 1}, true},
				{"not there", "HTTPS_PROXY=http://" + login + "127.0.0.1:1", "https://images.example",
					verdict{2, "given up after 4 tries: ask images.example through the proxy http://127.0.0.1:1: .*connection refused\nhint: The proxy is set by", 0}, false},
			} {
				t.Run(c.name, func(t *testing.T) {
					env := strings.Fields(c.env)
					h := newHost(n.with(t), env...)
					h.trustCA(site)
					before := n.read("/var/log/squid/access.log")
					stageAndInspect(h, env, c.base, []string{"--ca", "/etc/site.pem"}, c.want, asked)
					said := strings.TrimPrefix(n.read("/var/log/squid/access.log"), before)
					if strings.Contains(said, "images.example") != c.seen {
						t.Errorf("the proxy says: %q", said)
					}
				})
			}
			if login == "" {
				return
			}
			for _, wrong := range []string{"", "ann:wrong@"} {
				t.Run("by "+wrong, func(t *testing.T) {
					env := []string{"HTTPS_PROXY=http://" + wrong + "127.0.0.1:3128"}
					h := newHost(n.with(t), env...)
					h.trustCA(site)
					want := verdict{2, "the proxy refuses the connection: 407 Proxy Authentication Required\nhint: The proxy is set by", 1}
					stageAndInspect(h, env, "https://images.example", []string{"--ca", "/etc/site.pem"}, want, asked)
				})
			}
		})
	}
}
