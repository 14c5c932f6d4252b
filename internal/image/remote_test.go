package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
)

// server serves data with a tag, and what later says after that many requests.
func server(t *testing.T, data []byte, from int32, later http.HandlerFunc) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := requests.Add(1); later != nil && n > from {
			later(w, r)
			return
		}
		serveAs(w, r, data, `"1"`)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/image.cosi", requests
}

func serveAs(w http.ResponseWriter, r *http.Request, data []byte, tag string) {
	w.Header().Set("ETag", tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func TestAnImageIsReadFromAServerInFewRequests(t *testing.T) {
	t.Parallel()
	path, sha384, content := build(t, small)
	u, requests := server(t, load(t, path), 0, nil)
	i, err := open(t.Context(), t, u, sha384)
	if err != nil {
		t.Fatal(err)
	}
	if n := requests.Load(); n > 8 {
		t.Errorf("%d requests to open it", n)
	}
	s, err := i.Partitions()[2].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, content[1]) || i.Local() {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := Open(t.Context(), fetch.Source{URL: u}, sha384, Options{Pin: i.Pin()}); err != nil {
		t.Errorf("pinned: %v", err)
	}
}

func TestAnImageThatChangesOnItsServerIsNeverVerified(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, small)
	data := load(t, path)
	changed := bytes.Clone(data)
	changed[len(changed)/2] ^= 1
	opened := func() int32 {
		u, n := server(t, data, 0, nil)
		if _, err := open(t.Context(), t, u, sha384); err != nil {
			t.Fatal(err)
		}
		return n.Load()
	}()
	for name, c := range map[string]struct {
		later http.HandlerFunc
		kind  errkind.Kind
		is    error
	}{
		"and says so":   {func(w http.ResponseWriter, r *http.Request) { serveAs(w, r, changed, `"2"`) }, errkind.Unavailable, fetch.ErrChanged},
		"and denies it": {func(w http.ResponseWriter, r *http.Request) { serveAs(w, r, changed, `"1"`) }, errkind.Corrupt, nil},
		"to the whole file": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			serveAs(w, r, data, `"1"`)
		}, errkind.Unsupported, nil},
		"to nothing": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }, errkind.NotFound, nil},
	} {
		u, _ := server(t, data, opened, c.later)
		i, err := open(t.Context(), t, u, sha384)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v, err := i.Partitions()[2].Check(t.Context())
		wantKind(t, err, c.kind)
		if v.Of(i.Partitions()[2].File) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadingFromAServerThatHangsCanBeStopped(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, small)
	data := load(t, path)
	hanging := make(chan struct{}, 16)
	u, n := server(t, data, 0, nil)
	if _, err := open(t.Context(), t, u, sha384); err != nil {
		t.Fatal(err)
	}
	u, _ = server(t, data, n.Load(), func(w http.ResponseWriter, r *http.Request) { hanging <- struct{}{}; <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	i, err := open(ctx, t, u, sha384)
	if err != nil {
		t.Fatal(err)
	}
	// By its context.
	s, err := i.Partitions()[2].Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-hanging; cancel() }()
	_, err = s.Read(make([]byte, 1))
	wantKind(t, err, errkind.Cancelled)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	// By closing it, while the decoder reads ahead.
	s, err = i.Partitions()[2].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
