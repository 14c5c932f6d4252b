package extension

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// depot serves files, with ranges, and counts the bytes that it sends.
type depot struct {
	*httptest.Server
	sent atomic.Int64
}

func newDepot(t *testing.T, files map[string]offer) *depot {
	s := &depot{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		o, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		rw.Header().Set("ETag", `"`+o.sha+`"`)
		http.ServeContent(countedAnswer{rw, &s.sent}, r, "", time.Unix(1, 0), bytes.NewReader(o.data))
	}))
	t.Cleanup(s.Close)
	return s
}

// budgetOf opens the budget of an operation.
func budgetOf(t *testing.T, w *world, allowed int64) *Budget {
	t.Helper()
	b, err := OpenBudget(filepath.Join(w.root, "operation"), allowed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func random(seed byte, size int) []byte {
	out := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(out)
	return out
}

func TestTheBudgetOfSeveralExtensionsIsAgreedBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := treeImage(t, random(1, 300<<10)), treeImage(t, random(2, 200<<10))
	s := newDepot(t, map[string]offer{"one.raw": one, "two.raw": two})
	whole := int64(len(one.data) + len(two.data))
	sources := func(b *Budget) []Source {
		return []Source{
			{Class: Sysext, URL: s.URL + "/one.raw", SHA384: strings.ToUpper(one.sha), Budget: b},
			{Class: Sysext, URL: s.URL + "/two.raw", SHA384: two.sha, Budget: b},
		}
	}
	err := w.store.Agree(t.Context(), sources(budgetOf(t, w, whole-1)), nil)
	if errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), "the 2 extensions") || !strings.Contains(errkind.Hint(err), "extensionDataBudget") {
		t.Errorf("%v (%s)", err, errkind.Hint(err))
	}
	if n := s.sent.Load(); n > 2 {
		t.Errorf("the server has sent %d bytes of content before the budget was agreed", n)
	}
	enough := budgetOf(t, w, whole+100)
	if err := w.store.Agree(t.Context(), sources(enough), nil); err != nil {
		t.Fatal(err)
	}
	for _, src := range sources(enough) {
		if _, err := w.store.Stage(t.Context(), src, nil, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.store.Agree(t.Context(), sources(budgetOf(t, w, 1)), nil); err != nil {
		t.Errorf("the store has both images: %v", err)
	}
	for _, free := range []*Budget{nil, budgetOf(t, w, 0)} {
		if err := newWorld(t).store.Agree(t.Context(), sources(free), nil); err != nil {
			t.Errorf("no budget: %v", err)
		}
	}
}

func TestABudgetSaysWhatBlocksAndWholeImagesNeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := random(1, 1<<20)
	old := treeImage(t, content)
	for i := range len(content) / 2 { // half of the blocks
		content[i] ^= 1
	}
	next := treeImage(t, content)
	s := newDepot(t, map[string]offer{"app_1.raw": old, "app_2.raw": next})
	first, err := w.store.Stage(t.Context(), Source{Class: Sysext, URL: s.URL + "/app_1.raw", SHA384: old.sha}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(w.root, "var/lib/extensions"), 0o755); err != nil {
		t.Fatal(err)
	}
	current := Generation{first.Extension()}
	stage := func(allowed int64) error {
		src := Source{Class: Sysext, URL: s.URL + "/app_2.raw", SHA384: next.sha, Budget: budgetOf(t, w, allowed)}
		if err := w.store.Agree(t.Context(), []Source{src}, current); err != nil {
			return err
		}
		_, err := w.store.Stage(t.Context(), src, current, nil, nil)
		return errors.Join(err, src.Budget.Close())
	}
	s.sent.Store(0)
	if err := stage(10 << 10); errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), "at least") || s.sent.Load() > 1 {
		t.Errorf("less than the tree: %v, after %d bytes", err, s.sent.Load())
	}
	err = stage(300 << 10)
	if errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), "blocks that this host lacks need") || !strings.Contains(err.Error(), "the whole image needs") {
		t.Errorf("less than the blocks: %v", err)
	}
	if n := s.sent.Load(); n > 300<<10 {
		t.Errorf("%d bytes came, more than the budget", n)
	}
	if err := stage(900 << 10); err != nil {
		t.Errorf("enough for the blocks, and not for the image: %v", err)
	}
	if n := s.sent.Load(); n > 900<<10 {
		t.Errorf("%d bytes came, more than the budget", n)
	}
}

func TestABudgetCountsOverRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := treeImage(t, random(1, 300<<10)), treeImage(t, random(2, 200<<10))
	s := newDepot(t, map[string]offer{"one.raw": one, "two.raw": two})
	allowed := int64(len(one.data) + len(two.data)/2)
	stage := func(name string, o offer) error {
		b := budgetOf(t, w, allowed) // as a new process
		_, err := w.store.Stage(t.Context(), Source{Class: Sysext, URL: s.URL + "/" + name, SHA384: o.sha, Budget: b}, nil, nil, nil)
		return errors.Join(err, b.Close())
	}
	if err := stage("one.raw", one); err != nil {
		t.Fatal(err)
	}
	if err := stage("two.raw", two); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("the second image: %v", err)
	}
	spent, err := os.ReadFile(filepath.Join(w.root, "operation.spent"))
	if n, perr := strconv.ParseInt(strings.TrimSpace(string(spent)), 10, 64); err != nil || perr != nil || n < int64(len(one.data)) || n > allowed {
		t.Errorf("%q bytes came, the budget has %d, and the first image %d: %v", spent, allowed, len(one.data), err)
	}
	if err := os.WriteFile(filepath.Join(w.root, "operation.spent"), []byte("many"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBudget(filepath.Join(w.root, "operation"), allowed); errkind.Of(err) != errkind.Precondition {
		t.Errorf("a damaged file of the received bytes: %v", err)
	}
}

func TestWithoutSizesEachExtensionIsComparedWithTheBudgetAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := treeImage(t, random(1, 100<<10))
	plain := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(one.data) }))
	t.Cleanup(plain.Close)
	local := filepath.Join(w.root, "one.raw")
	if err := os.WriteFile(local, one.data, 0o644); err != nil {
		t.Fatal(err)
	}
	b := budgetOf(t, w, 1000)
	for name, c := range map[string]struct {
		url  string
		kind errkind.Kind
	}{
		"no ranges": {plain.URL + "/one.raw", errkind.TooLarge},
		"absent":    {newDepot(t, nil).URL + "/one.raw", errkind.NotFound},
		"a file":    {"file:///one.raw", ""},
	} {
		src := Source{Class: Sysext, URL: c.url, SHA384: one.sha, Budget: b}
		if err := w.store.Agree(t.Context(), []Source{src}, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w.store.Stage(t.Context(), src, nil, nil, nil); (c.kind == "") != (err == nil) || err != nil && errkind.Of(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
		_ = w.store.Prune(nil)
	}
	if err := w.store.Agree(t.Context(), []Source{{Class: "x", Budget: b}}, nil); errkind.Of(err) != errkind.Invalid {
		t.Errorf("a wrong class: %v", err)
	}
}
