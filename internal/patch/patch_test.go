package patch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
)

// images returns an old image of n bytes without repetitions, and a new one that has some
// bytes changed, some more and some fewer.
func images(n int) (old, new []byte) {
	old = make([]byte, n)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(old)
	new = bytes.Clone(old)
	for at := 1000; at < n; at += n / 8 {
		new[at] ^= 0xff
	}
	new = append(new[:n/3:n/3], append([]byte("more"), new[n/3:]...)...)
	return old, append(new[:n/2:n/2], new[n/2+100:]...)
}

func mustMake(t *testing.T, old, new []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Make(t.Context(), old, new, &b, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAPatchMakesTheNewImageFromTheOldOne(t *testing.T) {
	t.Parallel()
	for _, n := range []int{8 << 10, 3 << 20, 12 << 20} {
		old, new := images(n)
		var calls []int64
		var b bytes.Buffer
		if err := Make(t.Context(), old, new, &b, func(done, total int64) { calls = append(calls, done, total) }); err != nil {
			t.Fatal(err)
		}
		if b.Len() > 4<<10 {
			t.Errorf("the patch for %d bytes has %d", n, b.Len())
		}
		if len(calls) < 2 || calls[len(calls)-2] != int64(len(new)) || calls[len(calls)-1] != int64(len(new)) {
			t.Errorf("progress %v", calls)
		}
		var got bytes.Buffer
		if err := Apply(t.Context(), old, &b, int64(len(new)), &got); err != nil || !bytes.Equal(got.Bytes(), new) {
			t.Errorf("%d bytes: made %d, %v", n, got.Len(), err)
		}
	}
}

func TestPatchesOfZstdAreApplied(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("zstd")
	if err != nil {
		t.Skip(err)
	}
	old, new := images(3 << 20)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string][]byte{"old": old, "new": new} {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"-q", "--patch-from=" + path("old"), path("new"), "-o", path("theirs")},
		{"-q", "-19", "--long=27", "--patch-from=" + path("old"), path("new"), "-o", path("theirs27")},
	} {
		if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
			t.Fatalf("zstd %v: %v\n%s", args, err, out)
		}
	}
	for _, name := range []string{"theirs", "theirs27"} {
		f, err := os.Open(path(name))
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := Apply(t.Context(), old, f, int64(len(new)), &got); err != nil || !bytes.Equal(got.Bytes(), new) {
			t.Errorf("%s: made %d bytes, %v", name, got.Len(), err)
		}
		_ = f.Close()
	}
}

// frameOf returns content in a frame without a dictionary, as a patch that uses nothing of
// the old image.
func frameOf(t *testing.T, content []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestABadPatchIsRefusedByNameAndMakesNoMoreThanTheImage(t *testing.T) {
	t.Parallel()
	old, new := images(1 << 20)
	size := int64(len(new))
	good := mustMake(t, old, new)
	theirs := frameOf(t, new, zstd.WithEncoderDictRaw(0, old), zstd.WithWindowSize(4<<20))
	other := bytes.Clone(old)
	for i := range other {
		other[i] ^= 0x5a
	}
	for name, c := range map[string]struct {
		old, patch []byte
		words      string
	}{
		"for another image":       {other, good, "the patch is for another base image"},
		"for a larger image":      {old[:len(old)/2], good, "the patch is for another base image"},
		"of zstd, for another":    {other, theirs, "the patch is for another base image"},
		"of zstd, for a larger":   {old[:len(old)/2], theirs, "the patch is for another base image"},
		"of zstd, truncated":      {old, theirs[:len(theirs)-8], "truncated"},
		"of a header alone":       {old, good[:50], "truncated"},
		"truncated":               {old, good[:len(good)-8], "truncated"},
		"damaged":                 {old, append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), "damaged"},
		"damaged in its steps":    {old, damaged(good, 90), "damaged"},
		"empty":                   {old, nil, "does not begin with a frame"},
		"of another form":         {old, []byte("tridelta" + strings.Repeat("x", 200)), "in a form of another version of Trident"},
		"not a patch":             {old, []byte(strings.Repeat("no patch", 100)), "does not begin with a frame"},
		"for another size":        {old, mustMake(t, old, new[1:]), "the patch makes 1048479 bytes, the image has 1048480"},
		"makes more, unannounced": {old, frameOf(t, make([]byte, 64<<20)), "the patch makes more bytes than the image has"},
		"makes less, unannounced": {old, frameOf(t, make([]byte, 1<<19)), "the patch makes 524288 bytes, the image has 1048480"},
		"two frames":              {old, append(bytes.Clone(theirs), theirs...), "the patch makes more bytes than the image has"},
		"endless":                 {old, append(bytes.Clone(theirs), bytes.Repeat(skippable(), 1<<20)...), "the patch is larger than the image"},
		"needs much memory":       {old, frameOf(t, make([]byte, 1<<20), zstd.WithWindowSize(512<<20)), "a window of 536870912 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			err := Apply(t.Context(), c.old, bytes.NewReader(c.patch), size, &got)
			if errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v, want kind %s and %q", err, errkind.Corrupt, c.words)
			}
			if int64(got.Len()) > size {
				t.Errorf("%d bytes were made", got.Len())
			}
		})
	}
}

// damaged returns patch with another byte at that place.
func damaged(patch []byte, at int) []byte {
	out := bytes.Clone(patch)
	out[at] ^= 0x10
	return out
}

// deltaOf returns a patch with steps that Make would not write.
func deltaOf(t *testing.T, old []byte, size int, d delta) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := d.encode(&b, old, size); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestStepsThatLeaveAnImageAreRefused(t *testing.T) {
	t.Parallel()
	old := []byte(strings.Repeat("old image ", 100))
	steps := func(numbers ...int64) (b []byte) {
		for i, n := range numbers {
			if i%3 == 2 {
				b = binary.AppendVarint(b, n)
			} else {
				b = binary.AppendUvarint(b, uint64(n))
			}
		}
		return b
	}
	none, sums := words{}, make([]byte, 4000)
	for name, c := range map[string]struct {
		d     delta
		words string
	}{
		"more than the image":      {delta{steps(501, 0, 0), none, nil}, "more bytes than the image has"},
		"fresh more than the rest": {delta{steps(100, 401, 0), none, sums}, "more bytes than the image has"},
		"huge numbers":             {delta{steps(-1, -1, 0), none, sums}, "more bytes than the image has"},
		"before the old image":     {delta{steps(10, 0, -11, 10, 0, 0), none, nil}, "a step leaves the base image"},
		"behind the old image":     {delta{steps(10, 0, 900, 200, 0, 0), none, nil}, "a step leaves the base image"},
		"far away":                 {delta{steps(10, 0, MaxSize+1), none, nil}, "a step leaves the base image"},
		"steps without bytes":      {delta{bytes.Repeat(steps(0, 0, 0), 100), none, nil}, "more bytes than the image has"},
		"too few steps":            {delta{steps(10, 0, 0), none, nil}, "a part of it ends early"},
		"a word beyond its step":   {delta{steps(500, 0, 0), words{gaps: steps(497), choices: []byte{0}}, nil}, "leaves its step"},
		"a word without a choice":  {delta{steps(500, 0, 0), words{gaps: steps(0)}, nil}, "a part of it ends early"},
		"a word without a number":  {delta{steps(500, 0, 0), words{gaps: steps(0), choices: []byte{guesses}}, nil}, "a part of it ends early"},
		"a guess that is not one":  {delta{steps(500, 0, 0), words{gaps: steps(0), choices: []byte{guesses + 1}}, nil}, "a number to add is damaged"},
		"a number beyond a word":   {delta{steps(500, 0, 0), words{gaps: steps(0), choices: []byte{guesses}, sums: binary.AppendVarint(nil, 1<<31)}, nil}, "a number to add is too large"},
		"too few fresh bytes":      {delta{steps(0, 500, 0), none, sums[:499]}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			err := Apply(t.Context(), old, bytes.NewReader(deltaOf(t, old, 500, c.d)), 500, &got)
			if errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), c.words) || got.Len() > 500 {
				t.Errorf("%d bytes, %v", got.Len(), err)
			}
		})
	}
}

// A program whose code has moved differs in its addresses all over.
func TestAddressesThatMovedCostLittle(t *testing.T) {
	t.Parallel()
	old := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(old)
	new := append(bytes.Clone(old[:5000]), bytes.Repeat([]byte("moved"), 20)...)
	new = append(new, old[5000:]...)
	for i := 6000; i+4 < len(new); i += 40 {
		binary.LittleEndian.PutUint32(new[i:], binary.LittleEndian.Uint32(new[i:])+100)
	}
	patch := mustMake(t, old, new)
	if len(patch) > len(new)/50 {
		t.Errorf("the patch has %d bytes for an image of %d", len(patch), len(new))
	}
	var got bytes.Buffer
	if err := Apply(t.Context(), old, bytes.NewReader(patch), int64(len(new)), &got); err != nil || !bytes.Equal(got.Bytes(), new) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
}

// The fuzzer compares without compression, which takes a thousand times as long.
func FuzzCompare(f *testing.F) {
	f.Add([]byte(strings.Repeat("old image ", 20)), []byte(strings.Repeat("new image ", 30)))
	f.Add([]byte("0123456789abcdef0123456789abcdefX"), []byte("X0123456789abcdef0123456789abcdef"))
	f.Fuzz(func(t *testing.T, old, new []byte) {
		d, err := compare(t.Context(), old, new, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		read := func(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }
		reader := &wordReader{gaps: read(d.words.gaps), choices: read(d.words.choices), sums: read(d.words.sums), guesser: newGuesser()}
		var got bytes.Buffer
		err = join(old, read(d.steps), reader, read(d.fresh), int64(len(new)), &got)
		if err != nil || !bytes.Equal(got.Bytes(), new) {
			t.Errorf("%d bytes, %v", got.Len(), err)
		}
	})
}

// skippable returns a frame that has no content.
func skippable() []byte { return []byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0} }

func TestErrorsOfReaderWriterAndContextAreReturned(t *testing.T) {
	t.Parallel()
	old, new := images(1 << 20)
	good, size := mustMake(t, old, new), int64(len(new))
	broken := errors.New("broken")
	if err := Apply(t.Context(), old, io.MultiReader(bytes.NewReader(good[:40]), failing{broken}), size, io.Discard); !errors.Is(err, broken) {
		t.Errorf("reader: %v", err)
	}
	if err := Apply(t.Context(), old, bytes.NewReader(good), size, failing{broken}); !errors.Is(err, broken) {
		t.Errorf("writer: %v", err)
	}
	if err := Make(t.Context(), old, new, failing{broken}, nil); !errors.Is(err, broken) {
		t.Errorf("writer of a patch: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if err := Apply(ctx, old, bytes.NewReader(good), size, io.Discard); !errors.Is(err, broken) {
		t.Errorf("context: %v", err)
	}
	if err := Make(ctx, old, new, io.Discard, nil); !errors.Is(err, broken) {
		t.Errorf("context of Make: %v", err)
	}
	for _, size := range []int64{0, -1, MaxSize + 1} {
		if err := Apply(t.Context(), old, bytes.NewReader(good), size, io.Discard); errkind.Of(err) != errkind.TooLarge {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if err := Make(t.Context(), nil, new, io.Discard, nil); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("an empty image: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func FuzzApply(f *testing.F) {
	old, new := images(64 << 10)
	var b bytes.Buffer
	if err := Make(f.Context(), old, new, &b, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:20])
	f.Add(append(skippable(), b.Bytes()...))
	f.Fuzz(func(t *testing.T, patch []byte) {
		var got bytes.Buffer
		err := Apply(t.Context(), old, bytes.NewReader(patch), int64(len(new)), &got)
		if got.Len() > len(new) || err == nil && got.Len() != len(new) {
			t.Errorf("%d bytes were made, %v", got.Len(), err)
		}
	})
}
