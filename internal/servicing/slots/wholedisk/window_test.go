package wholedisk

import (
	"testing"

	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
)

// What is written to a partition cannot reach the next one.
func TestAWindowEndsWithItsPartition(t *testing.T) {
	t.Parallel()
	disk := blockdevtest.New(1<<20, 512)
	next := []byte{7}
	if _, err := disk.WriteAt(next, 8192); err != nil {
		t.Fatal(err)
	}
	w := window{disk, 4096, 4096}
	if w.Size() != 4096 {
		t.Errorf("it has %d bytes", w.Size())
	}
	for _, c := range []struct {
		at, size int64
		fits     bool
	}{{0, 4096, true}, {4095, 1, true}, {4096, 0, true}, {4095, 2, false}, {0, 4097, false}, {4096, 1, false}} {
		data := make([]byte, c.size)
		_, rerr := w.ReadAt(data, c.at)
		_, werr := w.WriteAt(make([]byte, c.size), c.at)
		if (rerr == nil) != c.fits || (werr == nil) != c.fits {
			t.Errorf("%d bytes at %d: read %v, write %v, want success: %v", c.size, c.at, rerr, werr, c.fits)
		}
	}
	if _, err := disk.ReadAt(next, 8192); err != nil || next[0] != 7 {
		t.Errorf("the next partition has %d, %v", next[0], err)
	}
}
