package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// rig is a download on a fast clock. Its fields may be changed before a run.
type rig struct {
	download
	path  string
	logs  []string
	waits []time.Duration
}

// patience is how long a case waits for a byte: no longer than it must where its
// name says that there will be none, and elsewhere so long that a machine which is
// busy otherwise does not look like a silent server.
func patience(name string) time.Duration {
	for _, silent := range []string{"never a byte", "stalls", "endlessly empty"} {
		if strings.HasPrefix(name, silent) {
			return 300 * time.Millisecond
		}
	}
	return 30 * time.Second
}

func newRig(t *testing.T, src Source) *rig {
	t.Helper()
	r := &rig{path: filepath.Join(t.TempDir(), "image.part")}
	r.download = download{
		src: src, lim: Limits{Stall: 30 * time.Second}.withDefaults(), transport: newTransport(),
		free: freeSpace, every: 64 << 10, touch: func(string) error { return nil },
		log: func(s string) { r.logs = append(r.logs, s) },
		wait: func(ctx context.Context, d time.Duration) error {
			r.waits = append(r.waits, d)
			return ctx.Err()
		},
	}
	return r
}

func (r *rig) get(t *testing.T) (Result, error) {
	t.Helper()
	d := r.download // as after a restart, nothing is remembered
	defer func() { r.received += d.received }()
	d.received = 0
	return d.run(t.Context(), r.path)
}

// mustGet gets exactly want.
func (r *rig) mustGet(t *testing.T, want []byte) {
	t.Helper()
	result, err := r.get(t)
	if err != nil {
		t.Fatalf("%v\nlog: %q", err, r.logs)
	}
	r.check(t, result, want)
}

func (r *rig) check(t *testing.T, result Result, want []byte) {
	t.Helper()
	got, err := os.ReadFile(r.path)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes that are not the %d of the source (%v)\nlog: %q", len(got), len(want), err, r.logs)
	}
	if expect := (Result{int64(len(want)), sum(want)}); result != expect {
		t.Errorf("result %+v, want %+v", result, expect)
	}
}

func (r *rig) wantLog(t *testing.T, words string) {
	t.Helper()
	if all := strings.Join(r.logs, "\n"); !strings.Contains(all, words) {
		t.Errorf("log %q lacks %q", all, words)
	}
}

func wantKind(t *testing.T, err error, kind errkind.Kind, words string) {
	t.Helper()
	if err == nil || errkind.Of(err) != kind || !strings.Contains(err.Error(), words) {
		t.Fatalf("got %v (kind %s), want kind %s and %q", err, errkind.Of(err), kind, words)
	}
}

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// noise is n bytes that look like no other seed's.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// serve serves with handler, which is told how many requests came before.
func serve(t *testing.T, handler func(w http.ResponseWriter, r *http.Request, before int)) string {
	t.Helper()
	var mu sync.Mutex
	var n int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		before := n
		n++
		mu.Unlock()
		handler(w, r, before)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/image.raw"
}

// good serves content as RFC 9110 wants it.
func good(w http.ResponseWriter, r *http.Request, content []byte, tag string) {
	if tag != "" {
		w.Header().Set("ETag", tag)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// cut serves as good does, but only n bytes of it, and then nothing more.
func cut(w http.ResponseWriter, r *http.Request, content []byte, tag string, n int) {
	good(&cutter{ResponseWriter: w, left: n}, r, content, tag)
	panic(http.ErrAbortHandler)
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	if c.left -= n; err == nil && n < len(b) {
		c.ResponseWriter.(http.Flusher).Flush()
		err = errors.New("cut")
	}
	return n, err
}

// rangeStart is the first byte that r asks for; 0: all.
func rangeStart(r *http.Request) int {
	n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-"))
	return n
}
