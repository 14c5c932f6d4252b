package fetch

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func TestReadReturnsASmallSource(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			_, _ = w.Write([]byte("12345"))
		case "/to":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/denied":
			w.WriteHeader(http.StatusForbidden)
		case "/busy":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/cut":
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("12345"))
		case "/packed":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("12345"))
		case "/endless":
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		src  Source
		most int64
		kind errkind.Kind // "" for success
	}{
		{Source{URL: server.URL + "/ok"}, 5, ""},
		{Source{URL: server.URL + "/to"}, 5, ""},
		{Source{Path: file}, 5, ""},
		{Source{URL: "file://" + file}, 5, ""},
		{Source{URL: server.URL + "/ok"}, 4, errkind.TooLarge},
		{Source{URL: server.URL + "/endless"}, 1 << 20, errkind.TooLarge},
		{Source{Path: file}, 4, errkind.TooLarge},
		{Source{Path: file + "x"}, 5, errkind.NotFound},
		{Source{Path: "/dev/null"}, 5, errkind.Invalid},
		{Source{URL: server.URL + "/none"}, 5, errkind.NotFound},
		{Source{URL: server.URL + "/denied"}, 5, errkind.Denied},
		{Source{URL: server.URL + "/busy"}, 5, errkind.Unavailable},
		{Source{URL: server.URL + "/cut"}, 10, errkind.Unavailable},
		{Source{URL: server.URL + "/loop"}, 5, errkind.Invalid},
		{Source{URL: server.URL + "/packed"}, 5, errkind.Unsupported},
		{Source{URL: "http://127.0.0.1:1/x?secret"}, 5, errkind.Unavailable},
		{Source{URL: "ftp://x/secret"}, 5, errkind.Invalid},
		{Source{Path: "relative"}, 5, errkind.Invalid},
	} {
		got, err := Read(t.Context(), c.src, c.most)
		if c.kind == "" && (err != nil || string(got) != "12345") {
			t.Errorf("%s: got %q, %v", c.src, got, err)
		}
		if c.kind != "" && (err == nil || errkind.Of(err) != c.kind || strings.Contains(err.Error(), "?secret")) {
			t.Errorf("%s: got %v of kind %s, want kind %s", c.src, err, errkind.Of(err), c.kind)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ended, Source{URL: server.URL + "/ok"}, 5); errkind.Of(err) != errkind.Cancelled {
		t.Errorf("a call that was cancelled: %v", err)
	}
}
