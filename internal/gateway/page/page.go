// Package page is the page in the browser: HTML, CSS and plain JavaScript modules, which the
// gateway serves from its own program.
//
// The files are public and contain nothing about the host. The page gets everything that it shows
// by JSON-RPC, with the rights of the person who has logged in. A strict policy (Content Security
// Policy Level 3) has the browser run only the code of this gateway and contact only this
// gateway.
package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed static
var static embed.FS

// policy permits what the page does: its own scripts, styles and pictures, calls to its own
// origin, and no HTML from texts (require-trusted-types-for).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// index is the file of the path "/".
const index = "/index.html"

// A file is one file as the gateway sends it.
type file struct {
	media        string
	text, packed []byte
	hash         string
}

// A Page serves the files. It never changes.
type Page struct{ files map[string]*file }

// New returns a Page with the files that are embedded in the program, and compresses them.
func New() (*Page, error) {
	p := &Page{files: map[string]*file{}}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := newFile(name, text)
		p.files[strings.TrimPrefix(name, "static")] = f
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the page: %w", err)
	}
	p.files["/"] = p.files[index]
	delete(p.files, index)
	return p, nil
}

func newFile(name string, text []byte) (*file, error) {
	media := map[string]string{
		".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
		".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	}[path.Ext(name)]
	if media == "" {
		return nil, fmt.Errorf("%s has no known media type", name)
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	return &file{media: media, text: text, packed: packed.Bytes(), hash: hex.EncodeToString(sum[:16])}, nil
}

// ServeHTTP answers a request for a file, and 404 for a path without a file. It does not check
// the header Host: its caller has done so.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p.files[r.URL.Path]
	if f == nil {
		http.Error(w, "find the page: this gateway has no such file", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "send a GET", http.StatusMethodNotAllowed)
		return
	}
	body, tag := f.text, `"`+f.hash+`"`
	h := w.Header()
	if accepts(r.Header.Get("Accept-Encoding"), "gzip") {
		body, tag = f.packed, `"`+f.hash+`-gzip"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", f.media)
	h.Set("ETag", tag)
	// The browser asks each time, so that all files are those of one version.
	h.Set("Cache-Control", "no-cache")
	h.Add("Vary", "Accept-Encoding")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if matches(r.Header.Values("If-None-Match"), tag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // the caller may be gone
	}
}

// accepts reports whether a header Accept-Encoding names a coding (RFC 9110, 12.5.3), without
// the weight 0.
func accepts(header, coding string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), coding) {
			continue
		}
		q, ok := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(weight, " ", "")), "q=")
		if !ok {
			return true
		}
		v, err := strconv.ParseFloat(q, 64)
		return err == nil && v > 0
	}
	return false
}

// matches reports whether headers If-None-Match have the tag, or a star (RFC 9110, 13.1.2).
func matches(headers []string, tag string) bool {
	for part := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		if part = strings.TrimSpace(part); part == "*" || strings.TrimPrefix(part, "W/") == tag {
			return true
		}
	}
	return false
}
