package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

// scattered returns every third piece of n bytes of a content.
func scattered(n int64) (spans []Span) {
	for off := int64(1000); off+n < size; off += 3 * n {
		spans = append(spans, Span{off, n})
	}
	return spans
}

// readAll reads spans and fails unless each byte comes once.
func (r *Ranges) readAll(t *testing.T, content []byte, spans []Span) error {
	t.Helper()
	got, want := make([]byte, len(content)), make([]byte, len(content))
	for _, s := range spans {
		copy(want[s.Off:], content[s.Off:s.Off+s.Len])
	}
	var n int64
	err := r.ReadSpans(t.Context(), spans, func(off int64, p []byte) error {
		n += int64(len(p))
		copy(got[off:], p)
		return nil
	})
	if err == nil && (!bytes.Equal(got, want) || n != int64(len(spans))*spans[0].Len) {
		t.Errorf("%d bytes came, some of them wrong", n)
	}
	return err
}

func TestSpansAreReadInFewRequests(t *testing.T) {
	t.Parallel()
	content := noise(1, size)
	var requests atomic.Int32
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		requests.Store(int32(before))
		good(w, r, content, `"1"`)
	})
	m := NewMeter(0, 0, 0)
	r, err := ranged(t, Source{URL: u}, m)
	must(t, err)
	spans := scattered(500)
	must(t, r.readAll(t, content, spans))
	if n := int(requests.Load()); n > len(spans)/90+2 {
		t.Errorf("%d requests for %d spans", n, len(spans))
	}
	if used := m.Used(); used < int64(len(spans))*600 || used > int64(len(spans))*660 {
		t.Errorf("%d bytes used for %d spans of 500", used, len(spans))
	}
	must(t, r.readAll(t, content, []Span{{0, size}}))
	must(t, r.readAll(t, content, []Span{{5, 1}}))
}

func TestSpansOfAFileAreRead(t *testing.T) {
	t.Parallel()
	content := noise(1, size)
	path := t.TempDir() + "/x"
	must(t, os.WriteFile(path, content, 0o600))
	r := mustRanged(t, Source{Path: path})
	must(t, r.readAll(t, content, scattered(500)))
}

func TestAnErrorOfTheReceiverEndsTheRead(t *testing.T) {
	t.Parallel()
	content := noise(1, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { good(w, r, content, `"1"`) })
	r := mustRanged(t, Source{URL: u})
	broken := errors.New("broken")
	for _, spans := range [][]Span{scattered(500), {{0, 10}}} {
		if err := r.ReadSpans(t.Context(), spans, func(int64, []byte) error { return broken }); !errors.Is(err, broken) {
			t.Error(err)
		}
	}
}

func TestABrokenAnswerOfSeveralRangesIsContinued(t *testing.T) {
	t.Parallel()
	content := noise(1, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		if before == 3 || before == 4 {
			cut(w, r, content, `"1"`, 5000)
			return
		}
		good(w, r, content, `"1"`)
	})
	r := mustRanged(t, Source{URL: u})
	must(t, r.readAll(t, content, scattered(400)))
	if len(scattered(400)) < 200 {
		t.Fatal("too few spans for the test")
	}
}

func TestSeveralRangesOfAChangedFileAreRefused(t *testing.T) {
	t.Parallel()
	content := noise(1, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		good(w, r, content, fmt.Sprintf(`"%d"`, min(before, 1)))
	})
	r := mustRanged(t, Source{URL: u})
	if err := r.readAll(t, content, scattered(500)); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
}

func TestTheBudgetHoldsForSeveralRanges(t *testing.T) {
	t.Parallel()
	content := noise(1, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { good(w, r, content, `"1"`) })
	m := NewMeter(0, 20_000, 0)
	r, err := ranged(t, Source{URL: u}, m)
	must(t, err)
	wantKind(t, r.readAll(t, content, scattered(500)), errkind.TooLarge, "data budget")
	if m.Used() > 20_000 {
		t.Errorf("%d bytes used", m.Used())
	}
}

func TestAMessageOfSeveralRangesIsParsedStrictly(t *testing.T) {
	t.Parallel()
	const one = "--b\r\nContent-Type: x\r\nContent-Range: bytes 0-2/9\r\n\r\nabc"
	for body, want := range map[string]string{
		"\r\n" + one + "\r\n--b--\r\n":                      "bytes 0-2/9",
		one + "\r\n--b--":                                   "bytes 0-2/9",
		strings.ReplaceAll(one, "\r\n", "\n") + "\n--b--\n": "bytes 0-2/9",
		"--b--\r\n":                     "EOF",
		"":                              "unexpected EOF",
		"--b":                           "unexpected EOF",
		"--c\r\n":                       "no boundary",
		"\r\n\r\n\r\n\r\n\r\n\r\n--b--": "no boundary",
		"--b\r\nContent-Range: x\r\ncontent-range: y\r\n\r\n":    "two headers",
		"--b\r\n" + strings.Repeat("x: y\r\n", 40) + "\r\n":      "lines of header",
		"--b\r\nx: " + strings.Repeat("y", maxPartLine) + "\r\n": "more than 1024 bytes",
		"--b\r\nContent-Type: x\r\n\r\n":                         "",
	} {
		got, err := newParts(strings.NewReader(body), "b").next()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%.60q: %q, want %q", body, got, want)
		}
	}
	for kind, want := range map[string]bool{
		"multipart/byteranges; boundary=b": true, `Multipart/ByteRanges; boundary="b c"`: true, "multipart/byteranges": false,
		"text/plain; boundary=b": false, "": false, "multipart/byteranges; boundary=" + strings.Repeat("b", 201): false,
	} {
		if _, ok := boundaryOf(kind); ok != want {
			t.Errorf("%q: %t", kind, ok)
		}
	}
}

func FuzzSeveralRanges(f *testing.F) {
	f.Add("multipart/byteranges; boundary=b", []byte("--b\r\nContent-Range: bytes 0-2/9\r\n\r\nabc\r\n--b\r\nContent-Range: bytes 4-5/9\r\n\r\nef\r\n--b--"))
	f.Add("text/plain", []byte("abc"))
	f.Add("multipart/byteranges; boundary=b", []byte("\n\n--b\nContent-Range: bytes 4-5/9\n\nef--b"))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		r := &Ranges{pin: Pin{Size: 9}, lim: Limits{}.withDefaults()}
		spans := []Span{{0, 3}, {4, 2}, {7, 2}}
		seen := map[int64]bool{}
		a := &spanAnswer{r: r, left: spans, got: func(off int64, p []byte) error {
			for i := range int64(len(p)) {
				if seen[off+i] || off+i == 3 || off+i == 6 || off+i > 8 {
					t.Errorf("byte %d came although nobody asked for it, or twice", off+i)
				}
				seen[off+i] = true
			}
			return nil
		}}
		resp := &http.Response{StatusCode: 206, Header: http.Header{"Content-Type": {kind}, "Content-Range": {"bytes 0-2/9"}}}
		_ = a.take(resp, bytes.NewReader(body))
		if int(a.missing())+len(seen) != 7 {
			t.Errorf("%d bytes are missing, %d came", a.missing(), len(seen))
		}
	})
}
