package blockdev_test

import (
	"context"
	"errors"
	"hash/maphash"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
)

func TestADiskInMemory(t *testing.T) {
	t.Parallel()
	for _, sector := range []int64{512, 4096} {
		blockdevtest.Suite(t, func(*testing.T) blockdev.Device { return blockdevtest.New(8<<20, sector) })
	}
}

func TestAFileAsADisk(t *testing.T) {
	t.Parallel()
	blockdevtest.Suite(t, func(t *testing.T) blockdev.Device {
		path := filepath.Join(t.TempDir(), "disk")
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 8<<20)); err != nil {
			t.Fatal(err)
		}
		d, err := blockdev.Open(path, true)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return d
	})
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]errkind.Kind{
		"/dev/null":                           errkind.Invalid,
		filepath.Join(t.TempDir(), "missing"): errkind.NotFound,
	} {
		if _, err := blockdev.Open(path, false); errkind.Of(err) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestWaitingEndsWhenAllIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	early, late := filepath.Join(dir, "early"), filepath.Join(dir, "disk/by-partuuid/late")
	if err := os.WriteFile(early, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- blockdev.Await(t.Context(), early, late) }()
	if err := os.MkdirAll(filepath.Dir(late), 0o700); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if err := os.Symlink(early, late); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := blockdev.Await(ctx, filepath.Join(t.TempDir(), "never"))
	if errkind.Of(err) != errkind.Timeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestADiskThatIsClosedOrAPathThatLeadsNowhereFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, round := filepath.Join(dir, "disk"), filepath.Join(dir, "round")
	if err := errors.Join(os.WriteFile(path, make([]byte, 1<<20), 0o600), os.Symlink("round", round)); err != nil {
		t.Fatal(err)
	}
	d, err := blockdev.Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Discard(0, 0), d.Close()); err != nil {
		t.Fatal(err)
	}
	for verb, err := range map[string]error{"sync": d.Sync(), "discard": d.Discard(0, 4096), "close": d.Close()} {
		if err == nil {
			t.Errorf("%s of a disk that is closed succeeded", verb)
		}
	}
	if _, err := blockdev.Open(dir, false); !errors.Is(err, unix.EISDIR) {
		t.Errorf("a folder: %v", err)
	}
	if err := blockdev.Await(t.Context(), round); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link to itself: %v", err)
	}
}

func TestTheSumOfADiskIsThatOfItsContent(t *testing.T) {
	t.Parallel()
	seed := maphash.MakeSeed()
	d := blockdevtest.New(1<<20, 512)
	write := func(text string, off int64) {
		t.Helper()
		if _, err := d.WriteAt([]byte(text), off); err != nil {
			t.Fatal(err)
		}
	}
	blank := d.Sum(seed)
	write("a", 1000)
	first := d.Sum(seed)
	write("a", 3000)
	write("\x00", 1000)
	if moved := d.Sum(seed); first == blank || moved == first || moved == blank {
		t.Errorf("blank %d, with a byte %d, with the byte elsewhere %d", blank, first, moved)
	}
	write("\x00", 3000)
	if got := d.Sum(seed); got != blank {
		t.Errorf("blank again: %d, was %d", got, blank)
	}
}
