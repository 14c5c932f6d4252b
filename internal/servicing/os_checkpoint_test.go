package servicing

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
)

const mib = 1 << 20

// sawtooth returns a root file system of size bytes whose last byte of each MiB has the number
// of that MiB.
func sawtooth(size int) func([]byte) []byte {
	return func(root []byte) []byte {
		root = append(root, make([]byte, size-len(root))...)
		for off := mib; off <= size; off += mib {
			root[off-1] = byte(off / mib)
		}
		return root
	}
}

// A power cut in the middle of a large partition costs what Trident wrote after the last
// checkpoint, and no more: the next daemon begins to write there, and what the first one
// wrote before is on the disk.
func TestAPowerCutInAPartitionCostsWhatIsAfterTheLastCheckpoint(t *testing.T) {
	t.Parallel()
	const (
		size  = 20 * mib
		frame = 16 * mib // image.Write ends a zstd frame here, and only there can reading begin
	)
	large := &album{v1: assembled(t, "v1", "11", boottest.ESP(boot.AMD64, "v1"), nil, "", sawtooth(size))}
	for _, c := range []struct {
		name        string
		cutAt, next int64 // bytes of the partition
	}{
		{"before the checkpoint is journaled", frame, 0},
		{"after the checkpoint is journaled", frame + 2*mib, frame},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newOSWorld(t, large)
				var begins []int64 // where each daemon begins to write
				life := 0
				w.onWrite = func(label string, off int64) error {
					w.Mu.Lock()
					copies := label == "root-a" && w.Trace[len(w.Trace)-1] == "write partition"
					w.Mu.Unlock()
					if !copies {
						return nil
					}
					if w.lives != life {
						life, begins = w.lives, append(begins, off)
					}
					if off >= frame { // the disk is slow, so that a checkpoint is due after each write
						time.Sleep(6 * time.Second)
					}
					if len(begins) > 1 || off != c.cutAt {
						return nil
					}
					w.Mu.Lock()
					defer w.Mu.Unlock()
					w.cut(w.daemon)
					return hosttest.ErrDead
				}
				w.powerOn()
				text := func(a *album) string {
					return replaced("type: root, size: 8M", "type: root, size: 24M")(hostOf(a.v1, ""))
				}
				kind, start := installing(text, true, true)(w)
				if op := w.run(kind, start, ""); op.Phase != operation.Done || w.slot != slot.A {
					t.Fatalf("%s in slot %v: %+v\ntouches: %v", op.Phase, w.slot, op.Failure, w.Trace)
				}
				if want := []int64{0, c.next}; !slices.Equal(begins, want) {
					t.Errorf("the daemons began to write at %d, want %d", begins, want)
				}
				w.rest()
				p, _ := findLabel(w.inventory(), "root-a")
				for off := int64(mib); off <= size; off += mib {
					var b [1]byte
					if _, err := w.disk.ReadAt(b[:], p.Offset+off-1); err != nil || b[0] != byte(off/mib) {
						t.Errorf("byte %d of the partition is %d, %v", off-1, b[0], err)
					}
				}
			})
		})
	}
}
