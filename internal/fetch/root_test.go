//go:build root

package fetch

import (
	"math"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// The file system is fuller than it said before.
func TestADiskThatFillsUpIsSaidAndCanBeGoneOnWith(t *testing.T) {
	content := noise(1, size)
	file := filepath.Join(t.TempDir(), "image")
	write(t, file, content)
	small := t.TempDir()
	must(t, unix.Mount("tmpfs", small, "tmpfs", 0, "size=200k"))
	t.Cleanup(func() { must(t, unix.Unmount(small, unix.MNT_DETACH)) })

	r := newRig(t, Source{Path: file})
	r.path = filepath.Join(small, "image.part")
	r.free = func(string) (int64, error) { return math.MaxInt64, nil }
	_, err := r.get(t)
	wantKind(t, err, errkind.NoSpace, "more bytes are needed: write part file: ")

	must(t, unix.Mount("", small, "", unix.MS_REMOUNT, "size=1m"))
	r.free = freeSpace
	before := readRecord(r.path + ".json").Synced
	r.received = 0
	r.mustGet(t, content)
	if before == 0 || r.received != size-before {
		t.Errorf("%d bytes were there, %d were copied", before, r.received)
	}
}
