package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

func TestOnlyTemporaryFailuresAreRetried(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	proxy := func(status int) *http.Transport {
		p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(p.Close)
		u, err := url.Parse(strings.Replace(p.URL, "http://", "http://me:hush@", 1))
		must(t, err)
		tr := newTransport()
		tr.Proxy = http.ProxyURL(u)
		return tr
	}
	absent := newTransport()
	absent.Proxy = http.ProxyURL(&url.URL{Scheme: "http", User: url.UserPassword("me", "hush"), Host: closed.Addr().String()})
	lookup := func(err *net.DNSError) *http.Transport {
		tr := newTransport()
		tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}
		return tr
	}
	for name, c := range map[string]struct {
		url       string
		transport *http.Transport
		kind      errkind.Kind
		words     string
		waits     int // between tries
	}{
		"a name that does not exist":   {"https://nowhere.example/x", lookup(&net.DNSError{Err: "no such host", Name: "nowhere.example", IsNotFound: true}), errkind.Unavailable, "no such host", 0},
		"a resolver that is down":      {"https://nowhere.example/x", lookup(&net.DNSError{Err: "server misbehaving", IsTemporary: true}), errkind.Unavailable, "given up after 4 tries", 3},
		"nobody listens":               {"http://" + closed.Addr().String() + "/x", nil, errkind.Unavailable, "connection refused", 3},
		"https to an http port":        {strings.Replace(plain.URL, "http:", "https:", 1), nil, errkind.TLS, "answers in http, not in https", 0},
		"a proxy that refuses":         {"https://far.example/x", proxy(403), errkind.Denied, "refuses the connection: 403", 0},
		"a proxy that wants a login":   {"https://far.example/x", proxy(407), errkind.Denied, "refuses the connection: 407", 0},
		"a proxy without tunnels":      {"https://far.example/x", proxy(501), errkind.Unavailable, "refuses the connection: 501", 0},
		"a proxy whose way is closed":  {"https://far.example/x", proxy(502), errkind.Unavailable, "given up after 4 tries", 3},
		"a proxy that is not there":    {"https://far.example/x", absent, errkind.Unavailable, "given up after 4 tries", 3},
		"no proxy there, for http":     {"http://far.example/x", absent, errkind.Unavailable, "given up after 4 tries", 3},
		"a proxy that says no by http": {"http://far.example/x", proxy(403), errkind.Denied, "answered 403", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Source{URL: c.url})
			if c.transport != nil {
				r.transport = c.transport
			}
			_, err := r.get(t)
			wantKind(t, err, c.kind, c.words)
			if len(r.waits) != c.waits {
				t.Errorf("waits %v, want %d", r.waits, c.waits)
			}
			total := time.Duration(0)
			for _, w := range r.waits {
				total += w
			}
			if total > 4*time.Second {
				t.Errorf("a person waits for %s", total)
			}
			if c.transport != nil && c.transport.Proxy != nil && strings.Contains(name, "proxy") {
				if !strings.Contains(err.Error(), "proxy http://127.0.0.1:") || strings.Contains(err.Error()+errkind.Hint(err), "hush") {
					t.Errorf("the proxy is not named, or its password is: %v", err)
				}
				if errkind.Hint(err) == "" {
					t.Errorf("no hint: %v", err)
				}
			}
		})
	}
}

func TestTheHintOfACertificateIsAboutItsFault(t *testing.T) {
	hints := map[string]bool{}
	for name, cause := range map[string]error{
		"of nobody known":       x509.UnknownAuthorityError{},
		"expired":               x509.CertificateInvalidError{Reason: x509.Expired},
		"of another server":     x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"},
		"not one of a server's": x509.CertificateInvalidError{Reason: x509.IncompatibleUsage},
	} {
		err := failure(&url.URL{Host: "h"}, "", &handshake{}, &tls.CertificateVerificationError{Err: cause})
		wantKind(t, err, errkind.TLS, "not accepted")
		private := strings.Contains(errkind.Hint(err), "ca.d")
		if want := !strings.HasPrefix(name, "expired") && !strings.HasPrefix(name, "of another"); private != want {
			t.Errorf("%s: hint %q", name, errkind.Hint(err))
		}
		hints[errkind.Hint(err)] = true
	}
	if len(hints) != 3 {
		t.Errorf("hints: %v", hints)
	}
}

// Once a server has sent something it is waited for.
func TestADownloadWaitsForAServerThatRestarts(t *testing.T) {
	content := noise(1, size)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { cut(w, r, content, `"1"`, size/2) }))
	r := newRig(t, Source{URL: s.URL})
	r.download.wait = func(ctx context.Context, d time.Duration) error {
		if len(r.waits) == 0 {
			s.Close()
		}
		r.waits = append(r.waits, d)
		return ctx.Err()
	}
	_, err := r.get(t)
	wantKind(t, err, errkind.Unavailable, "given up after 8 tries")
}

func TestAnErrorOfAServerWithoutRangesNamesTheBrokenConnection(t *testing.T) {
	content := noise(1, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		r.Header.Del("Range")
		cut(w, r, content, `"1"`, 9000)
	})
	_, err := newRig(t, Source{URL: u}).get(t)
	wantKind(t, err, errkind.Unavailable, "the connection broke (read: unexpected EOF), and the server does not serve ranges")

	u = serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		if before > 1 {
			r.Header.Del("Range")
		}
		if before == 1 {
			cut(w, r, content, `"1"`, 9000)
		}
		good(w, r, content, `"1"`)
	})
	r, err := ranged(t, Source{URL: u}, nil)
	must(t, err)
	_, err = r.slurp(t, 0, size)
	wantKind(t, err, errkind.Unsupported, "the connection broke (")
}

func TestAnAuthorityOfTheHostCounts(t *testing.T) {
	content := noise(1, size)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { good(w, r, content, `"1"`) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	root := t.TempDir()
	folder := filepath.Join(root, "etc/trident/ca.d")
	must(t, os.MkdirAll(folder, 0o755))
	get := func() error {
		src, err := Source{URL: s.URL}.OnHost(root)
		if err != nil {
			return err
		}
		_, err = Download(t.Context(), src, filepath.Join(t.TempDir(), "part"), Limits{}, nil, nil)
		if err != nil {
			return err
		}
		in, err := OpenRanges(t.Context(), Source{URL: s.URL, Roots: src.Roots}, Pin{}, Limits{}, nil, nil)
		return errors.Join(err, in.Close())
	}
	err := get()
	wantKind(t, err, errkind.TLS, "certificate")
	if !strings.Contains(errkind.Hint(err), "/etc/trident/ca.d") {
		t.Errorf("hint %q", errkind.Hint(err))
	}
	must(t, os.WriteFile(filepath.Join(folder, "README"), []byte("not for us"), 0o644))
	must(t, os.WriteFile(filepath.Join(folder, "ours.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o644))
	if err := get(); err != nil {
		t.Error(err)
	}
	must(t, os.WriteFile(filepath.Join(folder, "broken.pem"), []byte("nothing"), 0o644))
	wantKind(t, get(), errkind.Invalid, "read authority /etc/trident/ca.d/broken.pem")
}

func TestNoSourceOfADownloadIsAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	for _, path := range []string{"/dev/zero", "/proc/self/fd/" + strconv.Itoa(int(r.Fd())), "/dev"} {
		_, err := newRig(t, Source{Path: path}).get(t)
		wantKind(t, err, errkind.Invalid, path+" is a ")
		_, err = ranged(t, Source{URL: "file://" + path}, nil)
		wantKind(t, err, errkind.Invalid, path+" is a ")
	}
}

func TestAPermanentFailureIsNotRetried(t *testing.T) {
	for name, c := range map[string]struct{ answer, words string }{
		"headers over 64 KiB":    {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", "headers exceeded 65536 bytes"},
		"many small headers":     {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 20<<10) + "\r\n", "headers exceeded 65536 bytes"},
		"a length of letters":    {"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", `bad Content-Length "many"`},
		"a length below zero":    {"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", `bad Content-Length "-5"`},
		"two lengths":            {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "Content-Length"},
		"not HTTP":               {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed HTTP"},
		"a status of letters":    {"HTTP/1.1 OK\r\n\r\n", "malformed HTTP"},
		"a header without colon": {"HTTP/1.1 200 OK\r\nnothing\r\n\r\n", "malformed MIME header"},
		"another coding":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unsupported transfer encoding"},
		"chunks of letters":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "invalid byte in chunk length"},
		"400":                    {"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "answered 400"},
		"418":                    {"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n", "answered 418"},
		"451":                    {"HTTP/1.1 451 Legal\r\nContent-Length: 0\r\n\r\n", "answered 451"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			tr := newTransport()
			tr.Proxy = nil
			tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				asked++
				go func() {
					defer far.Close()
					if request(far) != nil {
						_, _ = io.WriteString(far, c.answer)
					}
				}()
				return near, nil
			}
			r := newRig(t, Source{URL: "http://mirror.example/x"})
			r.transport = tr
			_, err := r.get(t)
			wantKind(t, err, errkind.Invalid, c.words)
			if asked != 1 || errkind.Hint(err) == "" {
				t.Errorf("it was asked %d times; hint %q", asked, errkind.Hint(err))
			}
			asked = 0
			in := &Ranges{lim: Limits{}.withDefaults(), wait: func(context.Context, time.Duration) error { return nil }, transport: tr,
				url: &url.URL{Scheme: "http", Host: "mirror.example", Path: "/x"}}
			if err := in.openURL(t.Context(), Pin{}); err == nil || asked != 1 {
				if name != "chunks of letters" || err == nil { // a whole answer is refused before its body is read
					t.Errorf("ranges: asked %d times: %v", asked, err)
				}
			}
		})
	}
}
