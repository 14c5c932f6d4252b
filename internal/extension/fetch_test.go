package extension

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// treeImage returns an image of the sysext app with a hash tree, and one file of that content.
func treeImage(t *testing.T, content []byte) offer {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string][]byte{
		Sysext.releaseFile("app"): []byte("ID=_any\n" + Sysext.facts().fields + "ID=app\n"), "usr/share/app": content,
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, text, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	hosttest.MakeReadable(t, dir)
	image := filepath.Join(dir, "app.raw")
	if _, err := ddi.Build(t.Context(), image, ddi.BuildOptions{Tree: dir, Arch: ddi.AMD64, Epoch: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return offered(Sysext, data)
}

func TestAnExtensionTakesTheBlocksThatItsActiveVersionHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	old := treeImage(t, content)
	content[5000] ^= 1
	next := treeImage(t, content)
	var sent atomic.Int64
	var files = map[string][]byte{"/app_1.raw": old.data, "/app_2.raw": next.data}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.ServeContent(countedAnswer{rw, &sent}, r, "", time.Unix(1, 0), bytes.NewReader(files[r.URL.Path]))
	}))
	defer server.Close()
	first, err := w.store.Stage(t.Context(), Source{Class: Sysext, URL: server.URL + "/app_1.raw", SHA384: old.sha}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(w.root, "var/lib/extensions"), 0o755); err != nil {
		t.Fatal(err)
	}
	sent.Store(0)
	second, err := w.store.Stage(t.Context(), Source{Class: Sysext, URL: server.URL + "/app_2.raw", SHA384: next.sha}, Generation{first.Extension()}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := sent.Load(); n > 100<<10 || second.Extension().SHA384 != next.sha {
		t.Errorf("%d bytes came for one changed block", n)
	}
}

type countedAnswer struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c countedAnswer) Write(p []byte) (int, error) {
	c.sent.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}
