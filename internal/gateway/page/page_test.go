package page

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/gateway/jsonrpc/methods"
	"github.com/trident-project/trident/internal/gateway/rights"
)

func newPage(t *testing.T) *Page {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *Page) ask(method, at string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, at, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func TestEachFileComesWithAStrictPolicy(t *testing.T) {
	p := newPage(t)
	for at, media := range map[string]string{"/": "text/html", "/app.js": "text/javascript", "/style.css": "text/css", "/icon.svg": "image/svg+xml"} {
		r := p.ask("GET", at)
		if r.Code != 200 || !strings.HasPrefix(r.Header().Get("Content-Type"), media) || r.Body.String() == "" {
			t.Errorf("%s: %d %s", at, r.Code, r.Header().Get("Content-Type"))
		}
		given := r.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(given, want+";") {
				t.Errorf("%s: the policy %q lacks %s", at, given, want)
			}
		}
		if strings.Contains(given, "unsafe") || strings.Contains(given, "*") || strings.Contains(given, ":") {
			t.Errorf("%s: the policy %q", at, given)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Set-Cookie": "", "Cache-Control": "no-cache"} {
			if got := r.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q", at, name, got)
			}
		}
	}
}

func TestABrowserGetsAFileOnce(t *testing.T) {
	p := newPage(t)
	plain, packed := p.ask("GET", "/app.js"), p.ask("GET", "/app.js", "Accept-Encoding", "br, gzip")
	text := plain.Body.String()
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if unpacked, err := io.ReadAll(z); err != nil || string(unpacked) != text || packed.Header().Get("Content-Encoding") != "gzip" {
		t.Errorf("%v, %d bytes, not %d", err, len(unpacked), len(text))
	}
	tags := []string{plain.Header().Get("ETag"), packed.Header().Get("ETag")}
	if tags[0] == tags[1] || tags[0] == p.ask("GET", "/rpc.js").Header().Get("ETag") {
		t.Errorf("tags %q", tags)
	}
	for _, tt := range []struct {
		encoding, none string
		code           int
	}{
		{"", tags[0], 304}, {"", `"x", W/` + tags[0], 304}, {"", "*", 304}, {"", tags[1], 200}, {"gzip", tags[1], 304}, {"gzip;q=0", tags[0], 304},
		{"gzip; q=0.5", tags[1], 304}, {"x-gzip", tags[0], 304}, {"gzip;q=x", tags[0], 304}, {"", `"x"`, 200},
	} {
		r := p.ask("GET", "/app.js", "Accept-Encoding", tt.encoding, "If-None-Match", tt.none)
		if got := r.Body.String(); r.Code != tt.code || (got == "") != (tt.code == 304) || r.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%+v: %d, %d bytes", tt, r.Code, len(got))
		}
	}
	if r := p.ask("HEAD", "/app.js"); r.Code != 200 || r.Body.Len() != 0 || r.Header().Get("Content-Length") != plain.Header().Get("Content-Length") {
		t.Errorf("HEAD: %d, %s bytes", r.Code, r.Header().Get("Content-Length"))
	}
	if r := p.ask("POST", "/"); r.Code != 405 || r.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", r.Code)
	}
	for _, at := range []string{"/none", "/index.html", "/static/app.js", "/../page.go", "/app.js/", "//app.js", "/%2e%2e/page.go"} {
		if r := p.ask("GET", at); r.Code != 404 {
			t.Errorf("%s: %d", at, r.Code)
		}
	}
}

func TestTheCompressedFilesAreFewBytes(t *testing.T) {
	sum := 0
	for _, f := range newPage(t).files {
		sum += len(f.packed)
	}
	if sum > 60<<10 {
		t.Errorf("the page has %d bytes", sum)
	}
}

var (
	reference = regexp.MustCompile(`(?:from |import )"\./([^"]+)"|(?:src|href)="/([^"]+)"`)
	foreign   = regexp.MustCompile(`(?:https?:|wss?:)?//[\w.-]+\.[\w/.-]+`)
	html      = regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function| style=|<script>|localStorage|document\.cookie`)
)

// A file names no other host, no file that does not exist, and nothing that the policy forbids;
// no file is unused.
func TestTheFilesReferToEachOtherOnly(t *testing.T) {
	used := map[string]bool{"index.html": true}
	loaded := map[string]bool{}
	names := fs.FS(static)
	err := fs.WalkDir(names, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		for _, m := range reference.FindAllSubmatch(text, -1) {
			to := string(m[1]) + string(m[2])
			used[to] = true
			if path.Base(name) == "index.html" {
				loaded[to] = true
			}
			if _, err := static.ReadFile("static/" + to); err != nil {
				t.Errorf("%s refers to %s: %v", name, to, err)
			}
		}
		for _, m := range foreign.FindAll(text, -1) {
			if string(m) != "http://www.w3.org/2000/svg" { // a name, which nobody opens
				t.Errorf("%s names %s", name, m)
			}
		}
		if m := html.Find(text); m != nil {
			t.Errorf("%s has %s", name, m)
		}
		if n := bytes.Count(text, []byte("\n")); path.Ext(name) == ".js" && n > 300 {
			t.Errorf("%s has %d lines", name, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := static.ReadDir("static")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !used[e.Name()] {
			t.Errorf("no file refers to %s", e.Name())
		}
		// Else the browser finds the modules one after another.
		if !loaded[e.Name()] && e.Name() != "index.html" {
			t.Errorf("index.html does not load %s", e.Name())
		}
	}
}

var need = regexp.MustCompile(`"([a-z_.]+)": "([a-z]+)",`)

// What the page says about rights is what the gateway checks.
func TestTheRightsOfActs(t *testing.T) {
	table, err := methods.New()
	if err != nil {
		t.Fatal(err)
	}
	text, err := static.ReadFile("static/rights.js")
	if err != nil {
		t.Fatal(err)
	}
	found := need.FindAllStringSubmatch(string(text), -1)
	if len(found) < 9 {
		t.Fatalf("rights.js has %d methods", len(found))
	}
	for _, m := range found {
		if got := table.Find(m[1]); got == nil || got.Right != rights.Right(m[2]) {
			t.Errorf("%s needs %s in the page; in the gateway it is %+v", m[1], m[2], got)
		}
	}
}
