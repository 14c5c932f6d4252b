package patch

import (
	"bytes"
	"context"
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

func TestZstdReadsAndWritesTheSameForm(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("zstd")
	if err != nil {
		t.Skip(err)
	}
	old, new := images(3 << 20)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string][]byte{"old": old, "new": new, "ours": mustMake(t, old, new)} {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"-q", "--patch-from=" + path("old"), path("new"), "-o", path("theirs")},
		{"-q", "-19", "--long=27", "--patch-from=" + path("old"), path("new"), "-o", path("theirs27")},
		{"-q", "-d", "--long=31", "--patch-from=" + path("old"), path("ours"), "-o", path("made")},
	} {
		if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
			t.Fatalf("zstd %v: %v\n%s", args, err, out)
		}
	}
	if made, err := os.ReadFile(path("made")); err != nil || !bytes.Equal(made, new) {
		t.Errorf("zstd made %d bytes, %v", len(made), err)
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
		"truncated":               {old, good[:len(good)-8], "truncated"},
		"damaged":                 {old, append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), "damaged"},
		"empty":                   {old, nil, "does not begin with a frame"},
		"not a patch":             {old, []byte(strings.Repeat("no patch", 100)), "does not begin with a frame"},
		"for another size":        {old, mustMake(t, old, new[1:]), "the patch makes 1048479 bytes, the image has 1048480"},
		"makes more, unannounced": {old, frameOf(t, make([]byte, 64<<20)), "the patch makes more bytes than the image has"},
		"makes less, unannounced": {old, frameOf(t, make([]byte, 1<<19)), "the patch makes 524288 bytes, the image has 1048480"},
		"two frames":              {old, append(bytes.Clone(good), good...), "the patch makes more bytes than the image has"},
		"endless":                 {old, append(bytes.Clone(good), bytes.Repeat(skippable(), 1<<20)...), "the patch is larger than the image"},
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
