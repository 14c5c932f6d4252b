package fetch

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
)

// ledger notes which server got which Authorization.
type ledger struct {
	mu  sync.Mutex
	got []string
}

func (l *ledger) note(server string, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	auth, secret := r.Header.Get("Authorization"), ""
	if b, ok := strings.CutPrefix(auth, "Basic "); ok {
		text, _ := base64.StdEncoding.DecodeString(b)
		secret = string(text)
	} else {
		secret = auth
	}
	secret += r.PostFormValue("refresh_token")
	if r.Referer() != "" || len(r.Cookies()) > 0 {
		secret += " and a Referer or Cookie"
	}
	l.got = append(l.got, strings.TrimSpace(fmt.Sprintf("%s%s %s", server, r.URL.Path, secret)))
}

// secretsOf returns what a server got that is a secret.
func (l *ledger) secretsOf(server string) (out []string) {
	for _, line := range l.got {
		if strings.HasPrefix(line, server+"/") && strings.Contains(line, " ") {
			out = append(out, line)
		}
	}
	return out
}

// trap is a registry and a stranger, both on this machine with ports of their own.
type trap struct {
	ledger
	t             *testing.T
	blob          []byte
	good, evil    *httptest.Server
	atGood, alien func(w http.ResponseWriter, r *http.Request) bool // true: answered
	secret        auth.Credential                                   // of the registry
}

func newTrap(t *testing.T, goodTLS, evilTLS bool) *trap {
	p := &trap{t: t, blob: noise(3, 5000), secret: auth.Credential{Username: "ann", Password: "s3cret"}}
	start := func(name string, secure bool, handler *func(http.ResponseWriter, *http.Request) bool) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.note(name, r)
			if *handler != nil && (*handler)(w, r) {
				return
			}
			p.serve(w, r)
		}))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		if secure {
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return s
	}
	p.good, p.evil = start("good", goodTLS, &p.atGood), start("evil", evilTLS, &p.alien)
	return p
}

// serve is what any registry without a login does.
func (p *trap) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.Contains(r.URL.Path, "/manifests/"):
		_, _ = fmt.Fprint(w, layerOf(p.blob))
	case strings.HasSuffix(r.URL.Path, "/token"):
		_, _ = fmt.Fprint(w, `{"token":"t0ken","access_token":"t0ken"}`)
	default:
		good(w, r, p.blob, "")
	}
}

func challenge(scheme, realm string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/token") {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`%s realm=%q,service="s"`, scheme, realm))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// pull brings the artifact, and once more in ranges, with the registry's password.
func (p *trap) pull() (whole, ranges error) {
	host := strings.SplitN(p.good.URL, "://", 2)[1]
	login := func(_ context.Context, registry string) (auth.Credential, error) {
		if registry == host {
			return p.secret, nil
		}
		return auth.EmptyCredential, nil
	}
	from := "oci://" + host + "/os/image:v1"
	roots := newTransport()
	roots.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	r := newRig(p.t, Source{URL: from, Login: login})
	r.transport, r.lim.Attempts = roots, 1
	_, whole = r.get(p.t)
	u, err := url.Parse(from)
	must(p.t, err)
	in := &Ranges{lim: Limits{Attempts: 1}.withDefaults(), wait: interrupt.Sleep, name: from, transport: roots}
	ranges = in.explain(p.t.Context(), in.openRegistry(p.t.Context(), u, login, Pin{}))
	return whole, ranges
}

func TestTheRegistrysPasswordGoesToNoOtherServer(t *testing.T) {
	toEvil := func(p *trap, at string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, at) {
				return false
			}
			http.Redirect(w, r, p.evil.URL+"/there", http.StatusTemporaryRedirect)
			return true
		}
	}
	for name, c := range map[string]struct {
		goodTLS, evilTLS bool
		set              func(p *trap)
		kind             errkind.Kind // "": it works
		words            string
		goodGets         int // secrets, at most
	}{
		"a redirect of the blob, bearer": {false, false, func(p *trap) {
			p.atGood, p.alien = toEvil(p, "/blobs/"), challenge("Bearer", p.evil.URL+"/token")
		}, errkind.Denied, "answered 401", 0},
		"a redirect of the manifest, bearer": {false, false, func(p *trap) {
			p.atGood, p.alien = toEvil(p, "/manifests/"), challenge("Bearer", p.evil.URL+"/token")
		}, errkind.Denied, "answered 401", 0},
		"a redirect, bearer, both with TLS": {true, true, func(p *trap) {
			p.atGood, p.alien = toEvil(p, "/blobs/"), challenge("Bearer", p.evil.URL+"/token")
		}, errkind.Denied, "answered 401", 0},
		"a redirect, basic": {true, true, func(p *trap) {
			p.atGood, p.alien = toEvil(p, "/blobs/"), challenge("Basic", "x")
		}, errkind.Denied, "answered 401", 0},
		"a redirect whose challenge names the registry": {true, true, func(p *trap) {
			p.atGood, p.alien = toEvil(p, "/blobs/"), challenge("Bearer", p.good.URL+"/token")
		}, errkind.Denied, "answered 401", 0},
		"a redirect that leads back": {true, true, func(p *trap) {
			refuse := challenge("Bearer", p.good.URL+"/token")
			p.atGood = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v2/back" {
					return refuse(w, r)
				}
				return toEvil(p, "/blobs/")(w, r)
			}
			p.alien = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, p.good.URL+"/v2/back", http.StatusTemporaryRedirect)
				return true
			}
		}, errkind.Denied, "answered 401", 0},
		"a redirect after a login": {true, true, func(p *trap) {
			refuse := challenge("Bearer", p.good.URL+"/token")
			p.atGood = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Authorization") == "" {
					return refuse(w, r)
				}
				return toEvil(p, "/blobs/")(w, r)
			}
		}, "", "", 99},
		"a redirect after a login by password": {true, true, func(p *trap) {
			refuse := challenge("Basic", "x")
			p.atGood = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Authorization") == "" {
					return refuse(w, r)
				}
				return toEvil(p, "/blobs/")(w, r)
			}
		}, "", "", 99},
		"another token service, without TLS": {false, false, func(p *trap) {
			p.atGood = challenge("Bearer", p.evil.URL+"/token")
		}, errkind.Denied, "was reached without TLS", 0},
		"another token service with TLS, named without": {false, true, func(p *trap) {
			p.atGood = challenge("Bearer", p.evil.URL+"/token")
		}, errkind.Denied, "was reached without TLS", 0},
		"a token service without TLS, named over TLS": {true, false, func(p *trap) {
			p.atGood = challenge("Bearer", p.evil.URL+"/token")
		}, errkind.Denied, "uses http but registry was contacted over https", 0},
		"the token service redirects": {true, true, func(p *trap) {
			refuse := challenge("Bearer", p.good.URL+"/token")
			p.atGood = func(w http.ResponseWriter, r *http.Request) bool {
				return toEvil(p, "/token")(w, r) || r.Header.Get("Authorization") == "" && refuse(w, r)
			}
			p.alien = challenge("Bearer", p.evil.URL+"/token")
		}, errkind.Denied, "answered 401", 99},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTrap(t, c.goodTLS, c.evilTLS)
			c.set(p)
			for n, err := range func() []error { a, b := p.pull(); return []error{a, b} }() {
				if c.kind == "" && err != nil {
					t.Errorf("pull %d: %v", n, err)
				} else if c.kind != "" {
					wantKind(t, err, c.kind, c.words)
				}
				if err != nil && strings.Contains(err.Error(), "s3cret") {
					t.Errorf("the password is in %q", err)
				}
			}
			if got := p.secretsOf("evil"); len(got) > 0 {
				t.Errorf("the other host got %q", got)
			}
			if got := p.secretsOf("good"); len(got) > c.goodGets {
				t.Errorf("a login began: %q", got)
			}
		})
	}
}

func TestATokenServiceThatTheRegistryNamesOverTLSGetsThePassword(t *testing.T) {
	p := newTrap(t, true, true)
	p.atGood = func(w http.ResponseWriter, r *http.Request) bool {
		return r.Header.Get("Authorization") != "Bearer t0ken" && challenge("Bearer", p.evil.URL+"/token")(w, r)
	}
	whole, ranges := p.pull()
	if whole != nil || ranges != nil {
		t.Fatal(whole, ranges)
	}
	if got := p.secretsOf("evil"); len(got) != 2 || got[0] != "evil/token ann:s3cret" {
		t.Errorf("the token service got %q", got)
	}
	for _, line := range p.secretsOf("good") {
		if !strings.HasSuffix(line, " Bearer t0ken") {
			t.Errorf("the registry got %q", line)
		}
	}
}

func TestARegistryWithTLSGetsNoPlainRequest(t *testing.T) {
	// The second connection to the registry is answered in plain http, as by somebody
	// who took the port.
	p := newTrap(t, true, false)
	p.atGood = func(w http.ResponseWriter, r *http.Request) bool {
		return r.Header.Get("Authorization") == "" && challenge("Basic", "x")(w, r)
	}
	inner := p.good.Listener.Addr().String()
	front, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = front.Close() })
	var mu sync.Mutex
	var plain []byte
	go func() {
		for n := 0; ; n++ {
			c, err := front.Accept()
			if err != nil {
				return
			}
			if n == 0 {
				go relay(c, inner)
				continue
			}
			buf := make([]byte, 4096)
			k, _ := c.Read(buf)
			mu.Lock()
			plain = append(plain, buf[:k]...)
			mu.Unlock()
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
			_ = c.Close()
		}
	}()
	p.good.URL = "https://" + front.Addr().String()
	whole, _ := p.pull()
	if whole == nil {
		t.Error("it worked")
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(string(plain), "Authorization") {
		t.Errorf("in plain: %q", plain)
	}
}

func relay(c net.Conn, to string) {
	d, err := net.Dial("tcp", to)
	if err != nil {
		_ = c.Close()
		return
	}
	pipe := func(a, b net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := a.Read(buf)
			if _, werr := b.Write(buf[:n]); err != nil || werr != nil {
				_ = a.Close()
				_ = b.Close()
				return
			}
		}
	}
	go pipe(c, d)
	pipe(d, c)
}

func TestThePasswordOfAURLStaysWithItsServer(t *testing.T) {
	for name, c := range map[string]struct {
		location func(p *trap) string
		goodGets int // requests with the password, of two
		evilGets bool
	}{
		"a relative redirect":                {func(*trap) string { return "/next" }, 2, false},
		"an absolute redirect to the server": {func(p *trap) string { return p.good.URL + "/next" }, 2, false},
		"another port":                       {func(p *trap) string { return p.evil.URL + "/next" }, 1, true},
		"another name of the same machine": {func(p *trap) string {
			return strings.Replace(p.good.URL, "127.0.0.1", "localhost", 1) + "/next"
		}, 1, false},
		"the server by a spelling of its name": {func(p *trap) string {
			return strings.Replace(p.good.URL, "http:", "HTTP:", 1) + "/next"
		}, 2, false},
		"credentials in the redirect": {func(p *trap) string {
			return strings.Replace(p.evil.URL, "http://", "http://ann:s3cret@", 1) + "/next"
		}, 1, true},
		"the server's name as a user": {func(p *trap) string {
			return "http://" + strings.TrimPrefix(p.good.URL, "http://") + "@" + strings.TrimPrefix(p.evil.URL, "http://") + "/next"
		}, 1, true},
		"back by way of another": {func(p *trap) string { return p.evil.URL + "/back" }, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTrap(t, false, false)
			p.atGood = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/image.raw" {
					return false
				}
				w.Header().Set("Location", c.location(p))
				w.WriteHeader(http.StatusFound)
				return true
			}
			p.alien = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/back" {
					return false
				}
				http.Redirect(w, r, p.good.URL+"/next", http.StatusFound)
				return true
			}
			from := strings.Replace(p.good.URL, "http://", "http://ann:s3cret@", 1) + "/image.raw"
			r := newRig(t, Source{URL: from})
			r.mustGet(t, p.blob)
			if got := p.secretsOf("evil"); len(got) > 0 {
				t.Errorf("the other server got %q", got)
			}
			if c.evilGets != slices.ContainsFunc(p.got, func(s string) bool { return strings.HasPrefix(s, "evil/") }) {
				t.Errorf("requests: %q", p.got)
			}
			if got := p.secretsOf("good"); len(got) != c.goodGets {
				t.Errorf("the server got %q", got)
			}
		})
	}
}

func TestOriginsAreComparedInOneSpelling(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"https://a.example/x", "https://A.Example:443/y?z", true},
		{"http://a.example", "http://u:p@a.example:80", true},
		{"https://a.example:", "https://a.example", true},
		{"https://[::1]:5000", "https://[0:0:0:0:0:0:0:1]:5000", true},
		{"https://a.example", "http://a.example", false},
		{"https://a.example", "http://a.example:443", false},
		{"https://a.example", "https://a.example:80", false},
		{"https://a.example", "https://a.example:8443", false},
		{"https://a.example", "https://a.example.", false},
		{"https://a.example", "https://a.example.evil.example", false},
		{"https://a.example", "https://evil.example/a.example", false},
		{"https://a.example", "https://a.example@evil.example", false},
		{"https://bücher.example", "https://xn--bcher-kva.example", false},
		{"https://k.example", "https://\u212a.example", false}, // the sign for Kelvin
		{"https://[::1]", "https://[::2]", false},
		{"https://127.0.0.1", "https://[::ffff:127.0.0.1]", false},
	} {
		a, errA := url.Parse(c.a)
		b, errB := url.Parse(c.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if same := originOf(a) == originOf(b); same != c.same {
			t.Errorf("%s and %s: %v (%s, %s)", c.a, c.b, same, originOf(a), originOf(b))
		}
	}
}
