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
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

const size = 300 << 10

func TestACompleteFileIsNotFetchedAgain(t *testing.T) {
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
	wantKind(t, err, errkind.Corrupt, fmt.Sprintf("the source sent more than the announced %d bytes", size))
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
	wantKind(t, err, errkind.TLS, "certificate")

	trusting := newTransport()
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
	wantKind(t, err, errkind.TLS, "protocol version")
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

func TestACancelledDownloadEndsAtOnceAndCanContinue(t *testing.T) {
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

func TestTheRestIsRequestedOnlyOfTheSameContent(t *testing.T) {
	content := noise(11, size)
	old := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	for name, pin := range map[string]string{"ETag": `"tag"`, "Last-Modified": old} {
		var asked []http.Header
		u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
			asked = append(asked, r.Header)
			w.Header().Set(name, pin)
			modified, _ := http.ParseTime(w.Header().Get("Last-Modified"))
			to := &cutter{w, size}
			if before == 0 {
				to.left = 1000
			}
			http.ServeContent(to, r, "", modified, bytes.NewReader(content))
			if before == 0 {
				panic(http.ErrAbortHandler)
			}
		})
		r := newRig(t, Source{URL: u})
		r.mustGet(t, content)
		want := []http.Header{
			{"Accept-Encoding": {"identity"}, "User-Agent": {"trident"}, "Connection": {"close"}},
			{"Accept-Encoding": {"identity"}, "User-Agent": {"trident"}, "Connection": {"close"}, "Range": {"bytes=1000-"}, "If-Range": {pin}},
		}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if r.received != size {
			t.Errorf("%s: %d bytes received", name, r.received)
		}
	}
}
