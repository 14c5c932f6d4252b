package fetch

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

// Each server below is of no use at all.
func TestAServerThatCannotServeIsNamedWithTheReason(t *testing.T) {
	content := noise(2, size)
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		kind    errkind.Kind
		words   string
		tries   int
	}{
		"not found":    {status(404), errkind.NotFound, "the server answered 404 Not Found", 1},
		"gone":         {status(410), errkind.NotFound, "410", 1},
		"unauthorised": {status(401), errkind.Denied, "401", 1},
		"forbidden":    {status(403), errkind.Denied, "403", 1},
		"bad request":  {status(400), errkind.Invalid, "400", 1},
		"no content":   {status(204), errkind.Unavailable, "204", 1},
		"not modified": {status(304), errkind.Unavailable, "304", 1},
		"broken":       {status(500), errkind.Unavailable, "given up after 4 tries: the server answered 500", 4},
		"busy":         {status(429), errkind.Unavailable, "429", 4},
		"a range unasked": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/10")
			w.WriteHeader(206)
		}, errkind.Unavailable, "206", 1},
		"compressed": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			good(w, r, content, "")
		}, errkind.Unsupported, `content encoding "gzip"`, 1},
		"too large, and it says so": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000000")
		}, errkind.TooLarge, "the source has 5000000 bytes, the limit is 1000000", 1},
		"too large, and it does not say": {func(w http.ResponseWriter, _ *http.Request) {
			for range 200 {
				if _, err := w.Write(content); err != nil {
					return
				}
			}
		}, errkind.TooLarge, "the source has more than 1000000 bytes", 1},
		"redirect in a circle": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/image.raw", 302) }, errkind.Invalid, "more than 5 redirects", 6},
		"redirect to a file": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/shadow")
			w.WriteHeader(301)
		}, errkind.Denied, "redirects to file:///etc/shadow", 1},
		"redirect to nowhere": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://[::1")
			w.WriteHeader(301)
		}, errkind.Invalid, "redirects to a location that is not a URL", 1},
		"never more than a byte": {func(w http.ResponseWriter, r *http.Request) { cut(w, r, content, `"1"`, 1) }, errkind.Unavailable, "unexpected EOF", 4},
		"never a byte":           {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, errkind.Unavailable, "the source sent no byte for too long", 3},
		"no version, and cut":    {func(w http.ResponseWriter, r *http.Request) { cut(w, r, content, "", 9000) }, errkind.Unavailable, "which version", 3},
		"no ranges, and cut": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			cut(w, r, content, `"1"`, 9000)
		}, errkind.Unavailable, "does not serve ranges", 4},
		"always another range": {func(w http.ResponseWriter, r *http.Request) {
			if rangeStart(r) == 0 {
				cut(w, r, content, `"1"`, 9000)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", size-1, size))
			w.WriteHeader(206)
		}, errkind.Unavailable, "another range", 6},
	} {
		t.Run(name, func(t *testing.T) {
			var tries atomic.Int32
			u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
				tries.Add(1)
				c.handler(w, r)
			})
			r := newRig(t, Source{URL: u})
			r.lim = Limits{MaxSize: 1_000_000, Stall: patience(name), Attempts: 4}
			_, err := r.get(t)
			wantKind(t, err, c.kind, c.words)
			if !strings.HasPrefix(err.Error(), "fetch "+u+": ") {
				t.Errorf("error %q does not begin with what was being done", err)
			}
			if n := int(tries.Load()); n != c.tries {
				t.Errorf("%d requests, want %d", n, c.tries)
			}
			if r.received > 3*r.lim.MaxSize {
				t.Errorf("%d bytes were taken", r.received)
			}
			if fi, err := os.Stat(r.path); err != nil || fi.Size() > r.lim.MaxSize {
				t.Errorf("part: %v, %v", fi, err)
			}
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// Each server below behaves badly at first and well later.
func TestTemporaryFailuresAreRetriedAndContentsAreNeverMixed(t *testing.T) {
	content, old := noise(3, size), noise(4, size)
	const half = size / 2
	for name, c := range map[string]struct {
		first func(w http.ResponseWriter, r *http.Request, before int) bool // false: be good
		log   string
		bytes int64 // received, at most
	}{
		"busy for a while": {func(w http.ResponseWriter, _ *http.Request, n int) bool {
			if n < 3 {
				w.WriteHeader(503)
			}
			return n < 3
		}, "503", size},
		"cut in the middle": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 0 {
				cut(w, r, content, `"1"`, half)
			}
			return false
		}, fmt.Sprintf("unexpected EOF; next try at byte %d", half), size},
		"stalls in the middle": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 0 {
				good(&cutter{w, half}, r, content, `"1"`)
				<-r.Context().Done()
			}
			return n == 0
		}, "the source sent no byte for too long", size},
		"ignores ranges": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 0 {
				cut(w, r, content, `"1"`, half)
			}
			r.Header.Del("Range")
			return false
		}, "does not serve ranges", size + half},
		"changed meanwhile, and says so": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 0 {
				cut(w, r, old, `"0"`, half)
			}
			return false
		}, "the source changed", size + half},
		"changed meanwhile, and sends a range of the new one": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 0 {
				cut(w, r, old, `"0"`, half)
			}
			if rangeStart(r) > 0 {
				r.Header.Del("If-Range")
			}
			return false
		}, "the source changed", size + half},
		"changed size meanwhile": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 0 {
				cut(w, r, old[:size-5], `"1"`, half)
			}
			return false
		}, "the source changed", size + half},
		"shrank meanwhile": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			switch n {
			case 0:
				cut(w, r, old, `"1"`, half)
			case 1:
				w.Header().Set("Content-Range", "bytes */10")
				w.WriteHeader(416)
			}
			return n == 1
		}, "the source changed", size + half},
		"sends the range from elsewhere": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			switch n {
			case 0:
				cut(w, r, content, `"1"`, half)
			case 1:
				r.Header.Set("Range", "bytes=7-")
			}
			return false
		}, "another range", size + half},
		"sends several ranges": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			switch n {
			case 0:
				cut(w, r, content, `"1"`, half)
			case 1:
				r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d,%d-", half, half+1, half+3))
			}
			return false
		}, "another range", size + half},
		"announces another length than the range has": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			switch n {
			case 0:
				cut(w, r, content, `"1"`, half)
			case 1:
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", half, size-1, size))
				w.Header().Set("Content-Length", "10")
				w.WriteHeader(206)
			}
			return n == 1
		}, "another range", size + half},
		"sends only a part of the range": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			switch n {
			case 0:
				cut(w, r, content, `"1"`, half)
			case 1:
				r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", half, half+1000))
			}
			return false
		}, "only", size},
		"has only a weak tag": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 0 {
				cut(w, r, content, `W/"1"`, half)
			}
			if rangeStart(r) > 0 {
				panic("a weak tag was used for a range")
			}
			return false
		}, "which version", size + half},
		"announces no size": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			w.Header().Set("ETag", `"1"`)
			if n > 0 {
				return false
			}
			_, _ = w.Write(content[:half])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "next try at byte", size},
		"announced no size and had sent all of it": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			w.Header().Set("ETag", `"1"`)
			if n > 0 {
				return false
			}
			_, _ = w.Write(content)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "next try at byte", size},
		"redirects": {func(w http.ResponseWriter, r *http.Request, n int) bool {
			if r.URL.Path != "/other" {
				http.Redirect(w, r, "/other", 307)
			}
			return r.URL.Path != "/other"
		}, "", size},
	} {
		t.Run(name, func(t *testing.T) {
			u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
				if !c.first(w, r, before) {
					good(w, r, content, `"1"`)
				}
			})
			r := newRig(t, Source{URL: u})
			r.lim.Stall = patience(name)
			r.mustGet(t, content)
			r.wantLog(t, c.log)
			if r.received > c.bytes {
				t.Errorf("%d bytes received, want at most %d", r.received, c.bytes)
			}
		})
	}
}
