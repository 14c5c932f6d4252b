package fetch

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

const size = 300 << 10

func TestAFileIsFetchedOnceAndThenKnown(t *testing.T) {
	content := noise(1, size)
	requests := 0
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		requests = before + 1
		good(w, r, content, `"1"`)
	})
	var done, total int64
	for range 2 {
		result, err := Download(t.Context(), Source{URL: u, SHA256: strings.ToUpper(sum(content))}, t.TempDir()+"/x.part", Limits{}, func(d, n int64) { done, total = d, n }, nil)
		if err != nil || result != (Result{size, sum(content)}) {
			t.Fatalf("%+v, %v", result, err)
		}
		if done != size || total != size {
			t.Errorf("last progress %d of %d", done, total)
		}
	}
	if requests != 2 {
		t.Fatalf("%d requests for two parts", requests)
	}
	r := newRig(t, Source{URL: u})
	r.mustGet(t, content)
	r.mustGet(t, content)
	if requests != 3 {
		t.Errorf("a complete part was asked for again")
	}
	for _, path := range []string{r.path, r.path + ".json"} {
		if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
	if err := Remove(r.path); err != nil {
		t.Fatal(err)
	}
	r.mustGet(t, content)
	if requests != 4 {
		t.Errorf("%d requests after the part was removed", requests)
	}
}

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
		}, errkind.TooLarge, "it has 5000000 bytes, the limit is 1000000", 1},
		"too large, and it does not say": {func(w http.ResponseWriter, _ *http.Request) {
			for range 200 {
				if _, err := w.Write(content); err != nil {
					return
				}
			}
		}, errkind.TooLarge, "it has more than 1000000 bytes", 1},
		"redirect in a circle": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/image.raw", 302) }, errkind.Invalid, "more than 5 redirects", 6},
		"redirect to a file": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/shadow")
			w.WriteHeader(301)
		}, errkind.Denied, "redirects to file:///etc/shadow", 1},
		"redirect to nowhere": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://[::1")
			w.WriteHeader(301)
		}, errkind.Invalid, "redirects to what is no URL", 1},
		"never more than a byte": {func(w http.ResponseWriter, r *http.Request) { cut(w, r, content, `"1"`, 1) }, errkind.Unavailable, "unexpected EOF", 4},
		"never a byte":           {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, errkind.Unavailable, "no byte came for too long", 4},
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
			r.lim = Limits{MaxSize: 1_000_000, Stall: 300 * time.Millisecond, Attempts: 4}
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
func TestWhatPassesIsWaitedForAndNothingIsMixed(t *testing.T) {
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
		}, "no byte came for too long", size},
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
			r.lim.Stall = 300 * time.Millisecond
			r.mustGet(t, content)
			r.wantLog(t, c.log)
			if r.received > c.bytes {
				t.Errorf("%d bytes received, want at most %d", r.received, c.bytes)
			}
		})
	}
}

func TestASourceThatKeepsChangingIsGivenUp(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		cut(w, r, noise(byte(before), size), fmt.Sprintf(`"%d"`, before), 9000)
	})
	r := newRig(t, Source{URL: u})
	_, err := r.get(t)
	wantKind(t, err, errkind.Unavailable, "the source changed while it was being read")
	if !errors.Is(err, ErrChanged) {
		t.Error("not ErrChanged")
	}
	if r.received > 4*9000 {
		t.Errorf("%d bytes received", r.received)
	}
}

func TestBytesBeyondTheAnnouncedRangeAreNotKept(t *testing.T) {
	content := noise(5, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		if before == 0 {
			cut(w, r, content, `"1"`, 9000)
		}
		if before > 1 {
			good(w, r, content, `"1"`)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 9000-%d/%d", size-1, size))
		w.WriteHeader(206)
		_, _ = w.Write(append(bytes.Clone(content[9000:]), 0, 1, 2))
	})
	r := newRig(t, Source{URL: u})
	_, err := r.get(t)
	wantKind(t, err, errkind.Corrupt, fmt.Sprintf("more than the announced %d bytes came", size))
	r.mustGet(t, content)
}

func TestAnUnexpectedDigestIsCorruptAndTheNextCallBeginsAnew(t *testing.T) {
	content, bad := noise(6, size), noise(7, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		if before == 0 {
			good(w, r, bad, `"1"`)
		} else {
			good(w, r, content, `"1"`)
		}
	})
	r := newRig(t, Source{URL: u, SHA256: sum(content)})
	_, err := r.get(t)
	wantKind(t, err, errkind.Corrupt, "SHA-256 is "+sum(bad)+", not "+sum(content))
	r.mustGet(t, content)
}

func TestSecretsInAURLGoToTheServerAndNowhereElse(t *testing.T) {
	content := noise(8, size)
	var asked []string
	other := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		user, password, _ := r.BasicAuth()
		asked = append(asked, strings.Join([]string{"other", user, password, r.URL.RawQuery, r.Referer()}, " "))
		cut(w, r, content, `"1"`, 9000)
	})
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		user, password, _ := r.BasicAuth()
		asked = append(asked, strings.Join([]string{"first", user, password, r.URL.RawQuery}, " "))
		if before > 0 {
			w.WriteHeader(404)
			return
		}
		http.Redirect(w, r, other+"?signature=hush-redirect", 302)
	})
	r := newRig(t, Source{URL: strings.Replace(u, "http://", "http://hush-user:hush-password@", 1) + "?token=hush-query#hush-fragment"})
	_, err := r.get(t)
	wantKind(t, err, errkind.NotFound, u)
	want := []string{"first hush-user hush-password token=hush-query", "other   signature=hush-redirect ", "first hush-user hush-password token=hush-query"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	record, _ := os.ReadFile(r.path + ".json")
	if all := fmt.Sprint(err, r.logs, string(record)); strings.Contains(all, "hush") {
		t.Errorf("a secret is in %s", all)
	}
	for _, bad := range []string{"http://hush:hush@[::1", "http://hush\x7f", "ftp://hush@host/x", "https:///hush", "hush", "http://hush:hush@h:port/", "http://h/" + strings.Repeat("hush", 4000)} {
		_, err := newRig(t, Source{URL: bad}).get(t)
		wantKind(t, err, errkind.Invalid, "fetch: the URL of the source")
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("a secret is in %v", err)
		}
	}
	dead, _ := url.Parse(u)
	dead.Host, dead.RawQuery = "127.0.0.1:1", "hush"
	r = newRig(t, Source{URL: dead.String()})
	_, err = r.get(t)
	wantKind(t, err, errkind.Unavailable, "connection refused")
	if all := fmt.Sprint(err, r.logs); strings.Contains(all, "hush") {
		t.Errorf("a secret is in %s", all)
	}
}

func TestHTTPSIsVerifiedAndNeverBecomesHTTP(t *testing.T) {
	content := noise(9, size)
	plain := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { good(w, r, content, `"1"`) })
	safe := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			http.Redirect(w, r, plain, 302)
			return
		}
		good(w, r, content, `"1"`)
	}))
	safe.Config.ErrorLog = log.New(io.Discard, "", 0)
	safe.StartTLS()
	t.Cleanup(safe.Close)

	_, err := newRig(t, Source{URL: safe.URL + "/x"}).get(t)
	wantKind(t, err, errkind.Untrusted, "certificate")

	trusting := newTransport().(*http.Transport)
	trusting.TLSClientConfig.RootCAs = safe.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	r := newRig(t, Source{URL: safe.URL + "/x"})
	r.transport = trusting
	r.mustGet(t, content)
	r = newRig(t, Source{URL: safe.URL + "/down"})
	r.transport = trusting
	_, err = r.get(t)
	wantKind(t, err, errkind.Denied, "only https, or http from http, is followed")

	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.Config.ErrorLog = log.New(io.Discard, "", 0)
	old.StartTLS()
	t.Cleanup(old.Close)
	_, err = newRig(t, Source{URL: old.URL}).get(t)
	wantKind(t, err, errkind.Unavailable, "protocol version")
}

func TestRetryAfterIsHonouredWithinBounds(t *testing.T) {
	var header string
	for _, c := range []struct {
		header   string
		min, max time.Duration
	}{
		{"", 250 * time.Millisecond, 500 * time.Millisecond},
		{"7", 7 * time.Second, 7 * time.Second},
		{"86400", 2 * time.Minute, 2 * time.Minute},
		{"-1", 250 * time.Millisecond, 500 * time.Millisecond},
		{"soon", 250 * time.Millisecond, 500 * time.Millisecond},
		{time.Now().Add(time.Minute).UTC().Format(http.TimeFormat), 50 * time.Second, time.Minute},
		{time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), 250 * time.Millisecond, 500 * time.Millisecond},
	} {
		header = c.header
		u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
			if before == 0 {
				w.Header().Set("Retry-After", header)
				w.WriteHeader(503)
			} else {
				good(w, r, []byte("x"), "")
			}
		})
		r := newRig(t, Source{URL: u})
		r.mustGet(t, []byte("x"))
		if len(r.waits) != 1 || r.waits[0] < c.min || r.waits[0] > c.max {
			t.Errorf("Retry-After %q: waited %v, want %v to %v", c.header, r.waits, c.min, c.max)
		}
	}
}

func TestPausesGrowUpToABound(t *testing.T) {
	for failed, want := range map[int]time.Duration{1: firstWait, 2: 2 * firstWait, 5: 16 * firstWait, 9: longestWait, 1000: longestWait} {
		if got := pauseAfter(failed, 0); got < want/2 || got > want {
			t.Errorf("after %d failures: %v, want %v to %v", failed, got, want/2, want)
		}
	}
}

func TestACancelledDownloadEndsAtOnceAndIsGoneOnWith(t *testing.T) {
	content := noise(10, size)
	arrived := make(chan struct{}, 1)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		if before > 0 {
			good(w, r, content, `"1"`)
			return
		}
		good(&cutter{w, size / 2}, r, content, `"1"`)
		<-r.Context().Done()
	})
	for name, c := range map[string]struct {
		ctx  func() (context.Context, context.CancelFunc)
		kind errkind.Kind
	}{
		"cancelled": {func() (context.Context, context.CancelFunc) { return context.WithCancel(t.Context()) }, errkind.Cancelled},
		"deadline": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 200*time.Millisecond)
		}, errkind.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Source{URL: u})
			r.lim.Stall = time.Hour
			r.progress = func(done, _ int64) {
				select {
				case arrived <- struct{}{}:
				default:
				}
			}
			if c.kind == errkind.Timeout {
				r.src.URL = serve(t, func(_ http.ResponseWriter, r *http.Request, _ int) { <-r.Context().Done() })
			}
			ctx, cancel := c.ctx()
			defer cancel()
			if c.kind == errkind.Cancelled {
				go func() { <-arrived; cancel() }()
			}
			d := r.download
			_, err := d.run(ctx, r.path)
			wantKind(t, err, c.kind, "fetch ")
			if c.kind == errkind.Cancelled {
				before := d.part.size
				r.mustGet(t, content)
				if before == 0 || r.received != size-before {
					t.Errorf("%d bytes were there, %d were fetched", before, r.received)
				}
			}
		})
	}
}
