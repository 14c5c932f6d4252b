package blocks

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/trust"
)

func TestOnlyTheBlocksThatTheHostLacksTravel(t *testing.T) {
	t.Parallel()
	r := newRig(t, 8<<20, 20)
	r.mustGet(t)
	if sent := r.bytes("/new"); sent > int64(len(r.new))*65/1000+40<<10 {
		t.Errorf("%d bytes of %d came", sent, len(r.new))
	}
	if r.requested() > 20 {
		t.Errorf("%d requests for 103 scattered blocks", r.requested())
	}
}

func TestAPatchMakesTheImageAndTheTreeJudgesIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4<<20, 2)
	p := r.withPatch(t)
	r.mustGet(t)
	if r.bytes("/patch") != int64(len(p)) || r.bytes("/new") > int64(len(r.new))/50+40<<10 {
		t.Errorf("%d bytes of the patch of %d, %d of the image", r.bytes("/patch"), len(p), r.bytes("/new"))
	}
	if _, err := os.Stat(fetch.PatchPart(r.part)); !os.IsNotExist(err) {
		t.Errorf("the patch is still there: %v", err)
	}
}

// manyRanges is what servers do with several ranges (remote-fleet.md, F3).
func manyRanges() map[string]func(http.ResponseWriter, *http.Request) bool {
	keep := func(n int) func(http.ResponseWriter, *http.Request) bool {
		return func(_ http.ResponseWriter, r *http.Request) bool {
			if list := strings.Split(r.Header.Get("Range"), ","); len(list) > n {
				r.Header.Set("Range", strings.Join(list[:n], ","))
			}
			return false
		}
	}
	above := func(n int, then func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Count(r.Header.Get("Range"), ",") >= n && then(w, r)
		}
	}
	whole := func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
	return map[string]func(http.ResponseWriter, *http.Request) bool{
		"serves all":                            nil,
		"serves the first ten":                  keep(10),
		"serves the first":                      keep(1),
		"sends the whole file for more than 50": above(50, whole),
		"sends the whole file for two":          above(1, whole),
		"refuses more than 50":                  above(50, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(400); return true }),
		"answers several with nonsense": above(1, func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			w.WriteHeader(206)
			_, _ = w.Write([]byte("--x\r\nContent-Range: bytes 5-10/20000000000\r\n"))
			return true
		}),
		"sends other ranges than asked for": above(1, func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Set("Range", "bytes=0-99,4096-5000")
			return false
		}),
	}
}

func TestEachServerIsReadByItsOwnRules(t *testing.T) {
	t.Parallel()
	for name, limit := range manyRanges() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 4<<20, 10)
			r.limited(limit)
			r.mustGet(t)
			missing := int64(len(r.new)/10) + int64(len(r.new))/100 + 80<<10
			if sent := r.bytes("/new"); sent > missing && !strings.Contains(name, "whole") {
				t.Errorf("%d bytes came, %d are needed", sent, missing)
			}
		})
	}
}

func TestAServerWithoutRangesSendsTheWholeFileIfTheBudgetAllows(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20, 10)
	r.limited(func(_ http.ResponseWriter, req *http.Request) bool { req.Header.Del("Range"); return false })
	r.want.Source.MaxBytes = 100 << 10
	r.wantError(t, errkind.TooLarge, "the data budget does not suffice")
	r.want.Source.MaxBytes = 4 << 20
	r.mustGet(t)
	if !strings.Contains(strings.Join(r.log, "\n"), "fetching the whole file: ") {
		t.Errorf("no reason in the log: %q", r.log)
	}
}

func TestAnInterruptedFetchGoesOnWithoutAByteTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4<<20, 1)
	r.want.Old = nil
	r.limited(func(w http.ResponseWriter, req *http.Request) bool {
		if c := w.(counted); c.s.bytes("/new") > 0 && req.Header.Get("Range") != "" {
			from, _, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("Range"), "bytes="), "-")
			if n, _ := strconv.Atoi(from); n > 2<<20 && n < 3<<20 {
				w.WriteHeader(http.StatusBadGateway)
				return true
			}
			if strings.HasPrefix(req.Header.Get("Range"), "bytes=20480-") {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 20480-%d/%d", (5<<19)-1, len(r.new)))
				w.WriteHeader(206)
				_, _ = w.Write(r.new[20480 : 5<<19])
				return true
			}
		}
		return false
	})
	r.wantError(t, errkind.Unavailable, "given up")
	first := r.bytes("/new")
	r.limited(nil)
	r.mustGet(t)
	if extra := r.bytes("/new") - int64(len(r.new)); first < 2<<20 || extra > 8<<10 {
		t.Errorf("%d bytes came first, and %d more than the image in all", first, extra)
	}
}

func TestBytesOfAnotherFetchAreJudgedAndCleared(t *testing.T) {
	t.Parallel()
	for name, left := range map[string]func(r *rig) []byte{
		"the beginning":       func(r *rig) []byte { return r.new[:1<<20] },
		"another image":       func(r *rig) []byte { return r.old },
		"noise":               func(r *rig) []byte { return noise(9, len(r.new)) },
		"more than the image": func(r *rig) []byte { return append(bytes.Clone(r.new), noise(9, 5000)...) },
		"all but a block":     func(r *rig) []byte { b := bytes.Clone(r.new); clear(b[1<<20:][:4096]); return b },
		"a wrong gap":         func(r *rig) []byte { b := bytes.Clone(r.new); b[20000] = 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2<<20, 5)
			r.want.Old = nil
			must(t, os.WriteFile(r.part, left(r), 0o600))
			r.mustGet(t)
			if sent := r.bytes("/new"); name == "all but a block" && sent > 8<<10 {
				t.Errorf("%d bytes came for one block", sent)
			}
		})
	}
}

func TestTheBudgetIsAgreedBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4<<20, 2)
	p := r.withPatch(t)
	r.want.Source.MaxBytes = int64(len(p))
	r.wantError(t, errkind.TooLarge, "the patch from 1.0.0 needs about ")
	if sent := r.bytes("/new") + r.bytes("/patch"); sent > 1 {
		t.Errorf("%d bytes came before the refusal", sent)
	}
	before := r.requested()
	r.want.Source.Size = int64(len(r.new))
	r.wantError(t, errkind.TooLarge, "the patch from 1.0.0 needs about ")
	if r.requested() != before {
		t.Error("the server was asked, though the size of the image was known")
	}
	r.want.Source.MaxBytes = 3 << 20
	r.mustGet(t)

	r = newRig(t, 4<<20, 2)
	r.want.Source.MaxBytes = 1 << 20
	r.wantError(t, errkind.TooLarge, "blocks that this host lacks need ")
	if sent := r.bytes("/new"); sent > 120<<10 {
		t.Errorf("%d bytes came before the refusal", sent)
	}
	r.want.Old = nil
	r.part += "2"
	sentBefore := r.bytes("/new")
	r.wantError(t, errkind.TooLarge, "the whole image needs ")
	if sent := r.bytes("/new") - sentBefore; sent > 1 {
		t.Errorf("%d bytes came before the refusal without an image", sent)
	}
}

func TestWhenThePatchFailsTheBudgetStillHoldsAndTheErrorSaysWhatTheOtherWayCosts(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4<<20, 2)
	r.withPatch(t)
	r.offer(noise(3, 50<<10)) // which is not a patch
	r.want.Source.MaxBytes = 1 << 20
	r.wantError(t, errkind.TooLarge, "the patch from 1.0.0 failed: ")
	_, err := r.get(t.Context())
	if !strings.Contains(fmt.Sprint(err), "blocks that this host lacks need") || errkind.Hint(err) == "" {
		t.Errorf("%v, hint %q", err, errkind.Hint(err))
	}
	if sent := r.bytes("/new") + r.bytes("/patch"); sent > 1<<20 || r.bytes("/patch") > 50<<10 {
		t.Errorf("%d bytes came, %d of the patch", sent, r.bytes("/patch"))
	}
	r.want.Source.MaxBytes = 8 << 20
	r.mustGet(t)
}

func TestTheBudgetCountsOverRestarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2<<20, 1)
	r.want.Source.MaxBytes = 5 << 20 / 2
	// Another image comes at first, so that its bytes are of no use for the second.
	second := r.new
	first := r.vendor.imageOf(t, noise(7, 2<<20))
	r.serve("/new", first)
	r.new = first
	r.mustGet(t)
	must(t, os.Remove(r.part))
	must(t, os.Remove(r.part+".json"))
	r.serve("/new", second)
	r.new = second
	r.wantError(t, errkind.TooLarge, "are left")
	must(t, fetch.Remove(r.part))
	r.mustGet(t)
}

func TestABadPatchIsNamedAndTheServerGivesTheBlocks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		patch func(r *rig, good []byte) []byte
		words string
	}{
		"for another base": {func(r *rig, _ []byte) []byte {
			r.old = r.vendor.imageOf(t, append(noise(8, 1<<20), noise(1, 4<<20)[1<<20:]...))
			return r.withPatch(t)
		}, "the patch is for another base image"},
		"makes another image": {func(r *rig, _ []byte) []byte {
			keep := r.new
			r.new = r.vendor.imageOf(t, append(noise(8, 1<<20), noise(1, 4<<20)[1<<20:]...))
			b := r.withPatch(t)
			r.new = keep
			return b
		}, "makes another image"},
		"truncated": {func(_ *rig, good []byte) []byte { return good[:len(good)/2] }, "the patch is truncated"},
		"larger": {func(r *rig, _ []byte) []byte {
			keep := r.new
			r.new = append(bytes.Clone(r.new), 0)
			b := r.withPatch(t)
			r.new = keep
			return b
		}, "the image has"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 4<<20, 2)
			b := c.patch(r, r.withPatch(t))
			r.offer(b)
			r.mustGet(t)
			if log := strings.Join(r.log, "\n"); !strings.Contains(log, c.words) {
				t.Errorf("the log does not say %q:\n%s", c.words, log)
			}
		})
	}
}

func TestAServerThatLiesIsNamedAndNothingOfItIsKept(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2<<20, 3)
	lie := bytes.Clone(r.new)
	for at := 1 << 20; at < len(lie)-200<<10; at++ {
		lie[at] ^= 1
	}
	r.serve("/new", lie)
	r.wantError(t, errkind.Corrupt, "the server sent other bytes for block ")
	r.serve("/new", r.new)
	r.mustGet(t)
}

func TestAnImageThatTheHostDoesNotTrustSendsNoData(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(r *rig)
		kind  errkind.Kind
		words string
	}{
		"by another vendor": {func(r *rig) { r.want.Signer = newVendor(t).signer(t) }, errkind.Untrusted, "check signature of image"},
		"a damaged tree":    {func(r *rig) { r.new[len(r.new)-60<<10] ^= 1 }, errkind.Corrupt, "does not match its hash"},
		"a damaged table":   {func(r *rig) { r.new[600] ^= 1 }, errkind.Corrupt, "partition table"},
		"another size":      {func(r *rig) { r.want.Source.Size = int64(len(r.new)) - 1 }, errkind.Corrupt, "were announced"},
		"too large":         {func(r *rig) { r.want.Limits.MaxSize = 1 << 20 }, errkind.TooLarge, "the limit is 1048576"},
		"an unchecked signature": {func(r *rig) {
			r.want.Signer = func([32]byte, *ddi.Signature) (trust.Verified[[32]byte], error) {
				return trust.Verified[[32]byte]{}, nil
			}
		}, errkind.Untrusted, "was not checked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 4<<20, 2)
			c.spoil(r)
			r.wantError(t, c.kind, c.words)
			if sent := r.bytes("/new"); sent > 200<<10 {
				t.Errorf("%d bytes came", sent)
			}
		})
	}
}

func TestAnImageWithoutATreeComesWholeIfTheCallerKnowsItsHash(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20, 3)
	r.want.Signer = nil
	r.mustGet(t)
	r.new = noise(4, 1<<20)
	r.serve("/new", r.new)
	must(t, fetch.Remove(r.part))
	r.mustGet(t)
	r.want.Source.SHA256 = sum(r.old)
	r.wantError(t, errkind.Corrupt, "SHA-256 is")
}

func TestAFetchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20, 1)
	ctx, cancel := context.WithCancel(t.Context())
	r.limited(func(http.ResponseWriter, *http.Request) bool {
		if r.bytes("/new") > 100<<10 {
			cancel()
		}
		return false
	})
	if _, err := r.get(ctx); err != nil && errkind.Of(err) != errkind.Cancelled {
		t.Error(err)
	}
	cancel()
	if _, err := r.get(ctx); err == nil {
		t.Log("the first call was faster")
	}
	r.limited(nil)
	r.mustGet(t)
}

// A power cut loses blocks that were written, and the number of bytes of the budget is then not
// exact. Whatever was lost comes again, and nothing else.
func TestAfterPowerCutsOnlyWhatTheDiskLostComesAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2<<20, 1)
	p := r.withPatch(t)
	content := map[string][]byte{"/new": r.new, "/patch": p}
	r.want.Source.MaxBytes = 3 << 20
	lost := int64(0)
	for round := range 6 {
		left := &allowance{left: 100 << 10}
		r.limited(func(w http.ResponseWriter, req *http.Request) bool {
			http.ServeContent(short{w, left}, req, "", time.Time{}, bytes.NewReader(content[req.URL.Path]))
			if left.spent() {
				panic(http.ErrAbortHandler)
			}
			return true
		})
		if _, err := r.get(t.Context()); err == nil {
			break
		}
		part, err := os.ReadFile(r.part)
		must(t, err)
		for at := round * blockSize; at+blockSize <= len(part); at += 40 * blockSize {
			clear(part[at : at+blockSize])
			lost += blockSize + partOverhead
		}
		must(t, os.WriteFile(r.part, part, 0o600))
	}
	r.limited(nil)
	r.mustGet(t)
	most := int64(len(p)) + lost + 3*OutlineCost(int64(len(r.new))) + 200<<10
	if sent := r.bytes("/new") + r.bytes("/patch"); sent > most {
		t.Errorf("%d bytes came, %d were needed", sent, most)
	}
}

// allowance is the number of bytes that a server still sends.
type allowance struct {
	mu   sync.Mutex
	left int
}

func (a *allowance) spent() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.left <= 0
}

// short writes what its allowance has left, and then fails.
type short struct {
	http.ResponseWriter
	*allowance
}

func (s short) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.ResponseWriter.Write(p[:min(len(p), max(0, s.left))])
	if s.left -= n; err == nil && n < len(p) {
		err = http.ErrAbortHandler
	}
	return n, err
}
