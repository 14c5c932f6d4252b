//go:build root

package blockdev_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// loop is a loop device of size bytes.
func loop(t *testing.T, size int64, options ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", append(options, "--show", "-f", path)...).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup -d: %v: %s", err, out)
		}
	})
	return dev
}

func opened(t *testing.T, path string, exclusive bool) blockdev.Device {
	t.Helper()
	d, err := blockdev.Open(path, exclusive)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestARealDisk(t *testing.T) {
	for name, options := range map[string][]string{"scanned": {"-P"}, "not scanned": nil, "4 KiB": {"-P", "-b", "4096"}} {
		t.Run(name, func(t *testing.T) {
			blockdevtest.Suite(t, func(t *testing.T) blockdev.Device { return opened(t, loop(t, 8<<20, options...), true) })
		})
	}
}

// Large aligned writes and reads bypass the page cache, others do not; each must see what the
// other has written.
func TestThePageCacheAndTheDiskAgree(t *testing.T) {
	for name, options := range map[string][]string{"512 bytes": nil, "4 KiB": {"-b", "4096"}} {
		t.Run(name, func(t *testing.T) {
			d := opened(t, loop(t, 8<<20, options...), true)
			want := make([]byte, d.Size())
			r := rand.New(rand.NewPCG(1, 2))
			for range 200 {
				off, n := r.Int64N(7<<20), 1+r.Int64N(1<<20)
				if r.IntN(2) == 0 {
					off, n = off&^4095, 256<<10+n/2&^4095
				}
				part := make([]byte, n)
				for i := range part {
					part[i] = byte(r.Uint32())
				}
				if _, err := d.WriteAt(part, off); err != nil {
					t.Fatal(err)
				}
				copy(want[off:], part)
				off, n = max(0, off-r.Int64N(8192)), r.Int64N(1<<20)
				if r.IntN(2) == 0 {
					off, n = off&^4095, 1<<20
				}
				got := make([]byte, min(n, d.Size()-off))
				if _, err := d.ReadAt(got, off); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want[off:][:len(got)]) {
					t.Fatalf("%d bytes at %d are not those that were written", n, off)
				}
			}
		})
	}
}

// A large write leaves nothing in the page cache: Cached of /proc/meminfo would count the
// pages of other processes too, so the test asks for those of the device (cachestat(2)).
func TestALargeWriteBypassesThePageCache(t *testing.T) {
	path := loop(t, 8<<20)
	d := opened(t, path, true)
	for n, want := range map[int]uint64{4096: 1, 1 << 20: 0} {
		if err := d.Sync(); err != nil { // it also drops the clean pages
			t.Fatal(err)
		}
		if _, err := d.WriteAt(make([]byte, n), 1<<20); err != nil {
			t.Fatal(err)
		}
		if got := cached(t, path, 1<<20, uint64(n)); got != want {
			t.Errorf("%d pages of %d bytes are in the page cache, not %d", got, n, want)
		}
	}
}

// cached returns how many pages of a range of the device are in the page cache.
func cached(t *testing.T, path string, off, n uint64) uint64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Off: off, Len: n}, &stat, 0); err != nil {
		t.Skipf("cachestat: %v", err)
	}
	return stat.Cache
}

// A partition in use neither keeps the kernel from being told of the others, nor
// is it taken away.
func TestAPartitionInUseStays(t *testing.T) {
	for name, options := range map[string][]string{"scanned": {"-P"}, "not scanned": nil} {
		t.Run(name, func(t *testing.T) {
			dev := loop(t, 64<<20, options...)
			d := opened(t, dev, false)
			table := &gpt.Disk{ID: gpt.GUID{1}, Size: d.Size(), SectorSize: 512, Entries: []gpt.Entry{
				{Number: 1, Type: gpt.GUID{2}, ID: gpt.GUID{3}, Offset: 1 << 20, Size: 8 << 20},
				{Number: 2, Type: gpt.GUID{2}, ID: gpt.GUID{4}, Offset: 16 << 20, Size: 8 << 20},
			}}
			put(t, table, d)
			if out, err := exec.Command("mkfs.ext4", "-q", dev+"p1").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			at := t.TempDir()
			if err := unix.Mount(dev+"p1", at, "ext4", 0, ""); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := unix.Unmount(at, 0); err != nil {
					t.Error(err)
				}
			}()
			inUse(t, dev, at)
			table.Entries = []gpt.Entry{table.Entries[0], {Number: 3, Type: gpt.GUID{2}, ID: gpt.GUID{5}, Offset: 30 << 20, Size: 8 << 20}}
			put(t, table, d)
			if err := blockdev.Await(t.Context(), dev+"p3"); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(dev + "p2"); err == nil {
				t.Error("a partition that is gone from the table is still there")
			}
			if p3 := opened(t, dev+"p3", true); p3.Size() != 8<<20 {
				t.Errorf("partition 3 has %d bytes", p3.Size())
			}
			table.Entries = table.Entries[1:]
			if err := table.Write(d, func(_ string, change func() error) error { return change() }); err != nil {
				t.Fatal(err)
			}
			if err := d.Reread(t.Context()); errkind.Of(err) != errkind.Precondition {
				t.Errorf("a mounted partition was taken away: %v", err)
			}
		})
	}
}

func put(t *testing.T, table *gpt.Disk, d blockdev.Device) {
	t.Helper()
	if err := errors.Join(table.Write(d, func(_ string, change func() error) error { return change() }), table.Written(d), d.Reread(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// inUse checks that nobody gets the disk for himself, and that the inventory
// says why.
func inUse(t *testing.T, dev, at string) {
	t.Helper()
	for _, path := range []string{dev, dev + "p1"} {
		if d, err := blockdev.Open(path, true); errkind.Of(err) != errkind.Precondition {
			t.Errorf("%s was opened exclusively: %v, %v", path, d, err)
		}
	}
	inv, err := blockdev.Read("/")
	if err != nil {
		t.Fatal(err)
	}
	p, ok := inv.Partition(dev + "p1")
	if !ok || len(p.Use.Mounts) != 1 || p.Use.Mounts[0] != at || p.Content.Type != "ext4" {
		t.Errorf("the inventory has %+v", p)
	}
	if p, ok := inv.Partition(dev + "p2"); !ok || p.Use.InUse() {
		t.Errorf("the inventory has %+v", p)
	}
}
