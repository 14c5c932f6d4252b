package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
)

// dirty is a disk with something on it.
func dirty(t testing.TB, size int64) *blockdevtest.Memory {
	t.Helper()
	m := blockdevtest.New(size, 4096)
	junk := bytes.Repeat([]byte("what was there before"), 1<<16)
	for at := int64(0); at < size; at += int64(len(junk)) {
		if _, err := m.WriteAt(junk[:min(int64(len(junk)), size-at)], at); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	return m
}

func wantContent(t testing.TB, r io.ReaderAt, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := r.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the target has something else than the image")
	}
}

func TestADeploymentIsOnTheMediumAndNothingElseIs(t *testing.T) {
	t.Parallel()
	path, sha384, content := build(t, small)
	p := mustOpen(t, path, sha384).Partitions()[2]
	m := dirty(t, small+8192)
	before := make([]byte, 8192)
	if _, err := m.ReadAt(before, small); err != nil {
		t.Fatal(err)
	}
	var compressed, written int64
	v, err := p.Deploy(t.Context(), m, Deployment{Progress: func(c, w int64) {
		if c < compressed || w < written {
			t.Errorf("progress from %d, %d to %d, %d", compressed, written, c, w)
		}
		compressed, written = c, w
	}})
	if err != nil || !v.Of(p.File) {
		t.Fatal(err)
	}
	if compressed != p.File.Compressed || written != small {
		t.Errorf("progress ended at %d, %d", compressed, written)
	}
	after := m.Crash(rand.New(rand.NewPCG(1, 1)))
	wantContent(t, after, content[1])
	wantContent(t, io.NewSectionReader(after, small, 8192), before)
}

// failing is a disk of which the touch number at fails, and all after it.
type failing struct {
	*blockdevtest.Memory
	mu   sync.Mutex
	left int
}

var errDead = errors.New("input/output error")

func (f *failing) touch() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left--; f.left < 0 {
		return errDead
	}
	return nil
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if err := f.touch(); err != nil {
		return 0, err
	}
	return f.Memory.ReadAt(p, off)
}

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if err := f.touch(); err != nil {
		half := len(p) / 2
		_, _ = f.Memory.WriteAt(p[:half], off)
		return half, err
	}
	return f.Memory.WriteAt(p, off)
}

func (f *failing) Sync() error {
	if err := f.touch(); err != nil {
		return err
	}
	return f.Memory.Sync()
}

var brisk = pace{span: 4 << 20, saved: 1, least: time.Hour}

func TestADeploymentContinuesAfterAPowerCutAtAnyPoint(t *testing.T) {
	t.Parallel()
	path, sha384, content := build(t, large)
	empty := dirty(t, large)
	random := rand.New(rand.NewPCG(2, 2))
	gone := 0
	for cut := 0; ; cut += 1 + random.IntN(11) {
		p := mustOpen(t, path, sha384).Partitions()[2]
		p.image.atOnce = cut % 3
		var saved Checkpoint
		dead := &failing{Memory: empty.Crash(random), left: cut}
		v, err := p.deploy(t.Context(), dead, Deployment{Saved: func(c Checkpoint) error { saved = c; return nil }}, brisk)
		if err == nil {
			if cut < 80 || gone < 5 {
				t.Errorf("only %d touches, and %d times there was something to go on from", cut, gone)
			}
			break
		}
		if !errors.Is(err, errDead) || v.Of(p.File) {
			t.Fatalf("cut %d: %v", cut, err)
		}
		if saved.Uncompressed > 0 {
			gone++
		}
		// After the power is back, in another process.
		disk := dead.Crash(random)
		again := mustOpen(t, path, sha384).Partitions()[2]
		again.image.atOnce = cut % 4
		first := int64(-1)
		v, err = again.deploy(t.Context(), disk, Deployment{From: saved, Progress: func(_, written int64) {
			if first < 0 {
				first = written
			}
		}}, brisk)
		if err != nil || !v.Of(p.File) || first < saved.Uncompressed {
			t.Fatalf("cut %d, from %d: %v, first progress at %d", cut, saved.Uncompressed, err, first)
		}
		wantContent(t, disk.Crash(random), content[1])
	}
}

func TestACorruptPartitionIsNeverADeployedOne(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, small)
	data := load(t, path)
	whole := mustOpen(t, path, sha384).Partitions()[2]
	for _, at := range []int64{0, 5, 64 << 10, whole.File.Compressed / 2, whole.File.Compressed - 1} {
		changed := bytes.Clone(data)
		changed[whole.off+at] ^= 4
		p := mustOpen(t, save(t, changed), sha384).Partitions()[2]
		v, err := p.Deploy(t.Context(), dirty(t, small), Deployment{})
		wantKind(t, err, errkind.Corrupt)
		if v.Of(p.File) {
			t.Errorf("byte %d: verified", at)
		}
	}
}

// liar says that it has written, and has not, or not there.
type liar struct {
	*blockdevtest.Memory
	lie func(p []byte, off int64) ([]byte, int64)
}

func (l *liar) WriteAt(p []byte, off int64) (int, error) {
	q, at := l.lie(p, off)
	if _, err := l.Memory.WriteAt(q, at); err != nil {
		return 0, err
	}
	return len(p), nil
}

func TestADeviceThatReturnsOtherBytesIsFound(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, small)
	p := mustOpen(t, path, sha384).Partitions()[2]
	for name, lie := range map[string]func([]byte, int64) ([]byte, int64){
		"drops the last block":  func(b []byte, off int64) ([]byte, int64) { return b[:min(int64(len(b)), 3<<20-off)], off },
		"drops the first block": func(b []byte, off int64) ([]byte, int64) { return b[:min(off, int64(len(b)))], off },
		"wraps around at 2 MiB": func(b []byte, off int64) ([]byte, int64) { return b, off % (2 << 20) },
		"flips a bit": func(b []byte, off int64) ([]byte, int64) {
			c := bytes.Clone(b)
			if off == 1<<20 {
				c[77] ^= 1
			}
			return c, off
		},
	} {
		v, err := p.Deploy(t.Context(), &liar{dirty(t, small), lie}, Deployment{})
		if err == nil || v.Of(p.File) || !strings.Contains(err.Error(), "returned other bytes") || errkind.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnImageThatDoesNotFitIsRefusedBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, small)
	p := mustOpen(t, path, sha384).Partitions()[2]
	_, err := p.Deploy(t.Context(), &failing{Memory: blockdevtest.New(small-512, 512)}, Deployment{})
	wantKind(t, err, errkind.NoSpace)
	if name := errkind.NameOf(err); name.Variant != "FilesystemSizeExceedsBlockDevice" || name.Category != errkind.InvalidInput {
		t.Errorf("%v is called %v", err, name)
	}
}

func TestADeploymentEndsWhenItsCallerWantsIt(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, large)
	p := mustOpen(t, path, sha384).Partitions()[2]
	full := errors.New("the journal is full")
	_, err := p.deploy(t.Context(), dirty(t, large), Deployment{Saved: func(Checkpoint) error { return full }}, brisk)
	if !errors.Is(err, full) {
		t.Errorf("its record failed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	v, err := p.deploy(ctx, dirty(t, large), Deployment{Saved: func(Checkpoint) error { cancel(); return nil }}, brisk)
	wantKind(t, err, errkind.Cancelled)
	if v.Of(p.File) {
		t.Error("verified")
	}
	_, err = p.Deploy(t.Context(), dirty(t, large), Deployment{From: Checkpoint{SHA384: digestA, Compressed: 1}})
	wantKind(t, err, errkind.Invalid)
}
