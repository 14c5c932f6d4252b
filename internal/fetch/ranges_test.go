package fetch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// ranged opens src, with the content of the pin if one is given, on a clock that does not
// wait.
func ranged(t *testing.T, src Source, meter *Meter, pin ...Pin) (*Ranges, error) {
	t.Helper()
	return rangedWithin(t, src, meter, 30*time.Second, pin...)
}

// rangedWithin waits that long for a byte.
func rangedWithin(t *testing.T, src Source, meter *Meter, stall time.Duration, pin ...Pin) (*Ranges, error) {
	t.Helper()
	r := &Ranges{
		lim: Limits{Stall: stall, Attempts: 4}.withDefaults(), meter: meter, log: func(s string) { t.Log(s) },
		wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	r, err := openRanges(t.Context(), src, append(pin, Pin{})[0], r)
	if err == nil {
		t.Cleanup(func() { _ = r.Close() })
	}
	return r, err
}

func mustRanged(t *testing.T, src Source, pin ...Pin) *Ranges {
	t.Helper()
	r, err := ranged(t, src, nil, pin...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *Ranges) slurp(t *testing.T, off, n int64) ([]byte, error) {
	t.Helper()
	s, err := r.Section(t.Context(), off, n)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return io.ReadAll(s)
}

func TestRangesOfAFileAndOfAServerAreTheSame(t *testing.T) {
	content := noise(1, size)
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { good(w, r, content, `"1"`) })
	for _, from := range []string{"file://" + path, u} {
		r := mustRanged(t, Source{URL: from})
		if r.Size() != size || r.Local() != strings.HasPrefix(from, "file") {
			t.Errorf("%s: %d bytes", r.Name(), r.Size())
		}
		for _, c := range [][2]int64{{0, size}, {0, 0}, {size, 0}, {5, 100}, {size - 1, 1}} {
			got, err := r.slurp(t, c[0], c[1])
			if err != nil || !bytes.Equal(got, content[c[0]:c[0]+c[1]]) {
				t.Errorf("%s %v: %d bytes, %v", from, c, len(got), err)
			}
		}
		for _, c := range [][2]int64{{-1, 2}, {0, size + 1}, {size + 1, 0}, {5, 1<<63 - 1}} {
			_, err := r.Section(t.Context(), c[0], c[1])
			wantKind(t, err, errkind.Corrupt, "cannot read bytes")
		}
		b := make([]byte, 10)
		if n, err := r.ReadAt(t.Context(), b, size-4); n != 4 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %d, %v", from, n, err)
		}
		again := mustRanged(t, Source{URL: from}, r.Pin())
		if again.Pin() != r.Pin() {
			t.Errorf("%+v became %+v", r.Pin(), again.Pin())
		}
		other := r.Pin()
		other.Strong += "x"
		_, err := ranged(t, Source{URL: from}, nil, other)
		if !errors.Is(err, ErrChanged) {
			t.Errorf("%s with another pin: %v", from, err)
		}
	}
}

func TestASectionContinuesAfterABrokenConnection(t *testing.T) {
	content := noise(2, size)
	var asked []string
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		asked = append(asked, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
		switch before {
		case 1, 2:
			cut(w, r, content, `"1"`, 100_000)
		case 3:
			http.Error(w, "", http.StatusServiceUnavailable)
		case 4:
			good(&cutter{ResponseWriter: w, left: 10}, r, content, `"1"`)
			w.(http.Flusher).Flush()
			<-r.Context().Done() // stalls
		default:
			good(w, r, content, `"1"`)
		}
	})
	r := mustRanged(t, Source{URL: u})
	r.lim.Attempts, r.lim.Stall = 6, 300*time.Millisecond
	got, err := r.slurp(t, 1000, size-2000)
	if err != nil || !bytes.Equal(got, content[1000:size-1000]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	want := fmt.Sprintf(`[bytes=0-0  bytes=1000-%[1]d "1" bytes=101000-%[1]d "1" bytes=201000-%[1]d "1" bytes=201000-%[1]d "1" bytes=201010-%[1]d "1"]`, size-1001)
	if fmt.Sprint(asked) != want {
		t.Errorf("asked for %v\nwant %v", asked, want)
	}
}

// Each server below lies in its own way. What was read before is right.
func TestAServerThatLiesAboutRangesIsNoticed(t *testing.T) {
	content := noise(3, size)
	for name, c := range map[string]struct {
		later func(w http.ResponseWriter, r *http.Request)
		kind  errkind.Kind
		words string
	}{
		"ignores ranges": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			good(w, r, content, `"1"`)
		}, errkind.Unsupported, "does not serve ranges"},
		"has another file": {func(w http.ResponseWriter, r *http.Request) { good(w, r, noise(4, size), `"2"`) }, errkind.Unavailable, "the source changed"},
		"has another file, and minds no If-Range": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-Range")
			good(w, r, noise(4, size), `"2"`)
		}, errkind.Unavailable, "the source changed"},
		"has a longer file":  {func(w http.ResponseWriter, r *http.Request) { good(w, r, noise(4, size+1), `"1"`) }, errkind.Unavailable, "the source changed"},
		"has a shorter file": {func(w http.ResponseWriter, r *http.Request) { good(w, r, content[:1000], `"1"`) }, errkind.Unavailable, "the source changed"},
		"sends another range": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=0-99")
			good(w, r, content, `"1"`)
		}, errkind.Unavailable, "another range"},
		"sends more than was asked for": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=5000-")
			good(w, r, content, `"1"`)
		}, errkind.Unavailable, "another range"},
		"lies about its length": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 5000-5999/%d", size))
			w.Header().Set("Content-Length", "999")
			w.WriteHeader(206)
		}, errkind.Unavailable, "another range"},
		"packs": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			good(w, r, content, `"1"`)
		}, errkind.Unsupported, "content encoding"},
		"is gone":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, errkind.NotFound, "404"},
		"gives up":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, errkind.Unavailable, "given up after 4 tries"},
		"never a byte":  {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, errkind.Unavailable, "the source sent no byte for too long"},
		"a byte a time": {func(w http.ResponseWriter, r *http.Request) { cut(w, r, content, `"1"`, 1) }, errkind.Unavailable, "given up after 4 tries"},
	} {
		t.Run(name, func(t *testing.T) {
			u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
				if before == 0 {
					good(w, r, content, `"1"`)
				} else {
					c.later(w, r)
				}
			})
			r := mustRanged(t, Source{URL: u})
			r.lim.Stall = patience(name)
			got, err := r.slurp(t, 5000, 1000)
			wantKind(t, err, c.kind, c.words)
			if !bytes.HasPrefix(content[5000:6000], got) {
				t.Error("wrong bytes came before the error")
			}
		})
	}
}

func TestAServerWithoutRangesIsRefusedAtOnce(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { _, _ = w.Write([]byte("all of it")) })
	_, err := ranged(t, Source{URL: u}, nil)
	wantKind(t, err, errkind.Unsupported, "does not serve ranges")
	if errkind.Hint(err) == "" {
		t.Error("no hint")
	}
	empty := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { w.WriteHeader(416) })
	_, err = ranged(t, Source{URL: empty}, nil)
	wantKind(t, err, errkind.Corrupt, "the source is empty")
	for _, bad := range []string{"", "ftp://x/y", "file:relative", "file://elsewhere/x", "http://%zz", "oci://host", "oci://host/UPPER", "oci://u:p@host/a:b", "oci://host/a@sha256:12"} {
		_, err := ranged(t, Source{URL: bad}, nil)
		wantKind(t, err, errkind.Invalid, "")
	}
}

func TestAFileThatChangesWhileItIsReadIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, noise(5, size), 0o600); err != nil {
		t.Fatal(err)
	}
	r := mustRanged(t, Source{URL: "file://" + path})
	if err := os.WriteFile(path, noise(6, size), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.slurp(t, 0, 10); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
}

func TestADateThatHasAgedIsTheSamePin(t *testing.T) {
	young := Pin{Size: 1, Weak: "Sat"}
	if !young.matches(Pin{Size: 1, Strong: "Sat"}) || !young.matches(young) || young.matches(Pin{Size: 2, Strong: "Sat"}) || young.matches(Pin{Size: 1, Weak: "Sun"}) {
		t.Error("a young date")
	}
	if (Pin{Size: 1, Strong: "Sat"}).matches(young) || !(Pin{Size: 1}).matches(Pin{Size: 1}) {
		t.Error("an old one")
	}
}

// Apache calls the ETag of a file weak as long as the file is younger than a second.
func TestAWeakETagThatBecomesStrongIsOfTheSameContent(t *testing.T) {
	content := noise(1, size)
	tags := []string{`W/"1"`, `"1"`, `"2"`}
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) { good(w, r, content, tags[min(before, 2)]) })
	r := mustRanged(t, Source{URL: u})
	if got, err := r.slurp(t, 5, 100); err != nil || !bytes.Equal(got, content[5:105]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := r.slurp(t, 5, 100); !errors.Is(err, ErrChanged) {
		t.Errorf("another ETag: %v", err)
	}
	if !(Pin{Size: 1, Weak: `W/"1"`}).matches(Pin{Size: 1, Strong: `"1"`}) {
		t.Error("the pin of a young file is not that of the same file")
	}
}

func TestTheDataBudgetIsNeverExceeded(t *testing.T) {
	content := noise(7, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		if before == 1 {
			cut(w, r, content, `"1"`, 60_000)
		}
		good(w, r, content, `"1"`)
	})
	m := NewMeter(0, 100_000, 30_000)
	r, err := ranged(t, Source{URL: u}, m)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.slurp(t, 0, 80_000)
	wantKind(t, err, errkind.TooLarge, "30001 of 100000 bytes are used, 80000 more are needed")
	if m.Used() != 30_001 {
		t.Errorf("%d bytes used before anything was asked for", m.Used())
	}
	// What is lost on the way counts: 60,000 came, and the rest is 5,000.
	if got, err := r.slurp(t, 0, 65_000); err != nil || len(got) != 65_000 || m.Used() != 95_001 {
		t.Errorf("%d bytes, %d used, %v", len(got), m.Used(), err)
	}
	_, err = r.slurp(t, 0, 5_000)
	wantKind(t, err, errkind.TooLarge, "95001 of 100000")
	// Two that were both admitted share what is left.
	a, errA := r.Section(t.Context(), 0, 4000)
	b, errB := r.Section(t.Context(), 0, 4000)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	n, errA := io.Copy(io.Discard, a)
	k, errB := io.Copy(io.Discard, b)
	wantKind(t, errors.Join(errA, errB), errkind.TooLarge, "data budget")
	if n+k > 4999 || m.Used() > 100_000 {
		t.Errorf("%d bytes came, %d used", n+k, m.Used())
	}
}

func TestBandwidthIsCapped(t *testing.T) {
	content := noise(8, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { good(w, r, content, `"1"`) })
	m := NewMeter(1<<20, 0, 0)
	var waited time.Duration
	m.wait = func(_ context.Context, d time.Duration) error { waited = max(waited, d); return nil }
	r, err := ranged(t, Source{URL: u}, m)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := r.slurp(t, 0, size); err != nil {
		t.Fatal(err)
	}
	// Nobody waits in this test, so what is to be paid for adds up.
	if owed := time.Until(m.free) + time.Since(begin); owed < 250*time.Millisecond || waited == 0 {
		t.Errorf("300 KiB at 1 MiB/s take %s", owed)
	}
}

// fakeRegistry serves one artifact to who has a token, or to all.
type fakeRegistry struct {
	t         *testing.T
	blob      []byte
	login     string // user:password that gets a token; "": anybody
	manifest  string
	valid     int // which token is valid
	mu        sync.Mutex
	manifests int // that were asked for; guarded by mu
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	digest := "sha256:" + sum(f.blob)
	switch {
	case r.URL.Path == "/token":
		user, password, _ := r.BasicAuth()
		if f.login != "" && user+":"+password != f.login {
			w.WriteHeader(401)
			return
		}
		if r.URL.Query().Get("scope") != "repository:os/image:pull" {
			f.t.Errorf("scope %q", r.URL.RawQuery)
		}
		f.valid++
		_ = json.NewEncoder(w).Encode(map[string]any{"token": fmt.Sprintf("t%d", f.valid)})
	case r.Header.Get("Authorization") != fmt.Sprintf("Bearer t%d", f.valid) || f.valid == 0:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="fake",scope="repository:os/image:pull"`, r.Host))
		w.WriteHeader(401)
	case strings.HasPrefix(r.URL.Path, "/v2/os/image/manifests/"):
		f.mu.Lock()
		f.manifests++
		f.mu.Unlock()
		if f.manifest != "" {
			_, _ = io.WriteString(w, f.manifest)
			return
		}
		_, _ = fmt.Fprintf(w, `{"schemaVersion":2,"layers":[{"digest":%q,"size":%d}]}`, digest, len(f.blob))
	case r.URL.Path == "/v2/os/image/blobs/"+digest:
		good(w, r, f.blob, "")
	default:
		w.WriteHeader(404)
	}
}

func newFakeRegistry(t *testing.T) (*fakeRegistry, string) {
	f := &fakeRegistry{t: t, blob: noise(9, size)}
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { f.ServeHTTP(w, r) })
	return f, "oci://" + strings.TrimSuffix(strings.TrimPrefix(u, "http://"), "/image.raw") + "/os/image"
}

func TestARegistryIsReadAnonymouslyAndWithCredentials(t *testing.T) {
	for _, login := range []string{"", "ann:s3cret"} {
		f, u := newFakeRegistry(t)
		f.login = login
		config := fmt.Sprintf(`{"auths": {%q: {"auth": "YW5uOnMzY3JldA=="}}}`, strings.Split(u, "/")[2])
		credentials, err := RegistryLogin([]byte(config))
		if err != nil {
			t.Fatal(err)
		}
		r, err := ranged(t, Source{URL: u + ":v1", Login: credentials}, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.valid++ // the token expires
		if got, err := r.slurp(t, 100, 1000); err != nil || !bytes.Equal(got, f.blob[100:1100]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		f.manifest = `{"layers":[]}` // the tag moves, the pin does not
		again := mustRanged(t, Source{URL: u + ":v1", Login: credentials}, r.Pin())
		if got, err := again.slurp(t, 0, size); err != nil || !bytes.Equal(got, f.blob) || again.Pin() != r.Pin() {
			t.Errorf("pinned: %d bytes, %v", len(got), err)
		}
		_, err = ranged(t, Source{URL: u, Login: credentials}, nil)
		wantKind(t, err, errkind.Invalid, "the artifact has 0 layers")
	}
}

func TestARegistryThatSendsSomethingElseIsRefused(t *testing.T) {
	f, u := newFakeRegistry(t)
	_, err := ranged(t, Source{URL: u + "@sha256:" + strings.Repeat("0", 64)}, nil)
	wantKind(t, err, errkind.Corrupt, "does not have the digest")
	for manifest, kind := range map[string]errkind.Kind{
		"no json":            errkind.Corrupt,
		`{"manifests":[{}]}`: errkind.Invalid,
		`{"layers":[{},{}]}`: errkind.Invalid,
		`{"layers":[{"digest":"../x","size":1}]}`:                                         errkind.Corrupt,
		strings.Repeat(" ", maxManifest+1):                                                errkind.TooLarge,
		fmt.Sprintf(`{"layers":[{"digest":"sha256:%s","size":%d}]}`, sum(f.blob), size-1): errkind.Unavailable,
	} {
		f.manifest = manifest
		_, err := ranged(t, Source{URL: u}, nil)
		wantKind(t, err, kind, "")
	}
	f.login = "ann:other"
	f.valid = 0
	_, err = ranged(t, Source{URL: u, Login: annSays("s3cret")}, nil)
	wantKind(t, err, errkind.Denied, "log in to "+strings.Split(u, "/")[2]+": the registry does not accept the given credentials")
	if strings.Contains(err.Error(), "s3cret") {
		t.Error("the password is in the error")
	}
}

func TestCredentialsAreReadAsOtherToolsWriteThem(t *testing.T) {
	login, err := RegistryLogin([]byte(`{"auths": {"a.example": {"auth": "YW5uOnMzOmNyZXQ="}, "https://b.example:5000/v2/": {"username": "bob", "password": "x"},
		"c.example/only/this": {"auth": "YW5uOng="}, "helped.example": {}}, "credHelpers": {"a.example": "pass"}}`))
	must(t, err)
	for registry, want := range map[string]string{"a.example": "ann:s3:cret", "b.example:5000": "bob:x", "b.example": ":", "c.example": ":", "helped.example": ":", "": ":"} {
		if c, err := login(t.Context(), registry); err != nil || c.Username+":"+c.Password != want {
			t.Errorf("%s: %+v, %v, want %s", registry, c, err, want)
		}
	}
	for _, bad := range []string{"", "s3cret", `{"auths": []}`, `{"auths": {"a.example": {"auth": "s3cret!"}}}`, `{"x": "` + strings.Repeat("s3cret", maxLogin/6) + `"}`} {
		_, err := RegistryLogin([]byte(bad))
		wantKind(t, err, errkind.Invalid, "")
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the password is in %q", err)
		}
	}
}

func TestATokenIsForItsHostOnly(t *testing.T) {
	var got []string
	store := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		got = append(got, r.Header.Get("Authorization"))
		good(w, r, []byte("content"), "")
	})
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Path != "/here" {
			http.Redirect(w, r, "/here", http.StatusFound)
			return
		}
		got = append(got, r.Header.Get("Authorization"))
		http.Redirect(w, r, store, http.StatusFound)
	})
	to, err := parseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := get(t.Context(), newTransport(), to, http.Header{"Authorization": {"Bearer x"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if fmt.Sprint(got) != "[Bearer x ]" {
		t.Errorf("%q", got)
	}
}
