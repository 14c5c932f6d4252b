package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func openMeter(t *testing.T, part string, allowed int64) *Meter {
	t.Helper()
	m, err := OpenMeter(part, allowed)
	must(t, err)
	return m
}

func use(t *testing.T, m *Meter, n int) {
	t.Helper()
	got, err := m.reserve(t.Context(), n)
	if err != nil || got != n {
		t.Fatalf("%d of %d, %v", got, n, err)
	}
	m.settle(n, n)
}

func TestTheReceivedBytesAreRememberedAndNeverTooFew(t *testing.T) {
	t.Parallel()
	part := filepath.Join(t.TempDir(), "x.part")
	m := openMeter(t, part, 16_000)
	use(t, m, 100)
	use(t, m, 900)
	// A power cut: what the file says is at least what came, and not much more.
	if again := openMeter(t, part, 16_000); again.Used() < 1000 || again.Used() > 2100 {
		t.Errorf("%d bytes after a power cut", again.Used())
	}
	must(t, m.Close())
	again := openMeter(t, part, 16_000)
	if left, ok := again.Left(); again.Used() != 1000 || left != 15_000 || !ok {
		t.Errorf("%d bytes used, %d left", again.Used(), left)
	}
	use(t, again, 15_000)
	if _, err := again.reserve(t.Context(), 1); errkind.Of(err) != errkind.TooLarge {
		t.Error(err)
	}
	must(t, again.Close())
	must(t, Remove(part))
	if m := openMeter(t, part, 16_000); m.Used() != 0 {
		t.Errorf("%d bytes after Remove", m.Used())
	}
	if m := openMeter(t, part, 0); m.Close() != nil {
		t.Error("a meter without a limit")
	} else if _, limited := m.Left(); limited {
		t.Error("no limit is a limit")
	}
	must(t, os.WriteFile(part+".spent", []byte("many\n"), 0o600))
	_, err := OpenMeter(part, 1)
	wantKind(t, err, errkind.Precondition, "is not a number")
}

func TestADownloadKeepsItsBudgetOverRestarts(t *testing.T) {
	t.Parallel()
	content := noise(1, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		if before == 0 {
			cut(w, r, content, "", 200_000) // without a validator: the bytes are lost
		}
		good(w, r, content, "")
	})
	r := newRig(t, Source{URL: u, MaxBytes: size + 100_000})
	r.lim.Attempts = 1
	_, err := r.get(t)
	wantKind(t, err, errkind.Unavailable, "given up")
	_, err = r.get(t)
	wantKind(t, err, errkind.TooLarge, "the data budget does not suffice: ")
	r.src.MaxBytes = 2 * size
	r.mustGet(t, content)
}

func TestAnAnnouncedSizeMustBeTheSizeOfTheSource(t *testing.T) {
	t.Parallel()
	content := noise(1, size)
	for name, handler := range map[string]func(w http.ResponseWriter, r *http.Request, before int){
		"with a length": func(w http.ResponseWriter, r *http.Request, _ int) { good(w, r, content, `"1"`) },
		"without": func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			_, _ = w.Write(content)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Source{URL: serve(t, handler), Size: size - 1})
			_, err := r.get(t)
			wantKind(t, err, errkind.Corrupt, fmt.Sprintf("the source has %d bytes, and %d were announced", size, size-1))
			r.src.Size = size
			r.mustGet(t, content)
		})
	}
}

func TestAPartialIsFilledAtAnyPlaceAndThenIsADownload(t *testing.T) {
	t.Parallel()
	content := noise(1, size)
	part := filepath.Join(t.TempDir(), "x.part")
	src := Source{URL: "http://never.invalid/x", SHA256: sum(content)}
	p, done, err := OpenPartial(t.Context(), src, part)
	must(t, err)
	if done != nil || !p.IsFresh() {
		t.Fatal("a new part is not fresh")
	}
	if _, _, err := OpenPartial(t.Context(), src, part); errkind.Of(err) != errkind.Busy {
		t.Errorf("a second one: %v", err)
	}
	must(t, p.Resize(size))
	if err := p.Resize(1 << 60); errkind.Of(err) != errkind.NoSpace {
		t.Errorf("an exbibyte: %v", err)
	}
	_, err = p.File().WriteAt(content[5:], 5)
	must(t, err)
	_, err = p.File().WriteAt(content[:5], 0)
	must(t, err)
	result, err := p.Finish(t.Context())
	must(t, errors.Join(err, p.Close()))
	if result != (Result{size, sum(content)}) {
		t.Errorf("%+v", result)
	}
	again, err := Download(t.Context(), src, part, Limits{Attempts: 1}, nil, nil)
	if err != nil || again != result {
		t.Errorf("%+v, %v", again, err)
	}
	if p, done, err := OpenPartial(t.Context(), src, part); err != nil || p != nil || *done != result {
		t.Errorf("%v, %v", done, err)
	}
	src.SHA256 = sum(content[1:])
	if _, _, err := OpenPartial(t.Context(), src, part); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), "never.invalid") {
		t.Errorf("another hash: %v", err)
	}
}
