package extension

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// counted counts the bytes that are read through it.
type counted struct {
	io.ReaderAt
	bytes *atomic.Int64
}

func (c counted) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(b, off)
	c.bytes.Add(int64(n))
	return n, err
}

// verityImage makes a sysext of about 4 MiB with a hash tree.
func verityImage(t *testing.T) offer {
	t.Helper()
	dir := t.TempDir()
	tree, file := filepath.Join(dir, "tree"), filepath.Join(dir, "image")
	hosttest.Write(t, filepath.Join(tree, Sysext.releaseFile("app")), "ID=_any\nSYSEXT_ID=app\n")
	hosttest.Write(t, filepath.Join(tree, "usr/share/app"), strings.Repeat("x", 4<<20))
	hosttest.MakeReadable(t, tree)
	if _, err := ddi.Build(t.Context(), file, ddi.BuildOptions{Tree: tree, Arch: ddi.AMD64, Epoch: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return offered(Sysext, data)
}

func TestAProcessReadsAnImageTwiceAndAgainOnlyIfItHasChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := verityImage(t)
	var bytes atomic.Int64
	count := func(s *Store) { s.whole = func(f *os.File) io.ReaderAt { return counted{f, &bytes} } }
	passes := func(what string, want int64) {
		t.Helper()
		size := int64(len(app.data))
		if n := bytes.Swap(0); n < want*size*9/10 || n > want*size+size/4 {
			t.Errorf("%s: %d bytes read of an image of %d, want %d passes", what, n, size, want)
		}
	}
	count(w.store)
	image := w.stage(app, "")
	passes("stage: the hash, and the hash tree", 2)
	change := journaled(t, w.plan(nil, image))
	verify := func(s *Store) (Change, error) { return s.Verify(t.Context(), change) }
	for range 2 {
		c, err := verify(w.store)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.store.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	passes("verify and apply in the same process", 0)
	w.stage(app, "")
	passes("stage again", 0)

	stored := filepath.Join(w.store.Root, image.Stored())
	if err := os.Chtimes(stored, time.Unix(5, 0), time.Unix(5, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(w.store); err != nil {
		t.Fatal(err)
	}
	passes("after somebody has opened the file", 2)

	later := &Store{Root: w.store.Root, Systemd: w.store.Systemd, Touch: w.store.Touch}
	count(later)
	if _, err := verify(later); err != nil {
		t.Fatal(err)
	}
	passes("in the next process", 2)

	info, err := os.Stat(stored)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(stored, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{1}, int64(len(app.data))/2)
	if err = errors.Join(err, f.Close(), os.Chtimes(stored, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	_, err = verify(later)
	wantError(t, err, errkind.Corrupt, "SHA-384 is")
}
