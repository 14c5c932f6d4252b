package image

import (
	"bytes"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
)

// The memory that an image takes is known before anything is written, as far as that
// can be, and no later frame takes more.
func TestAnImageThatTakesMoreMemoryThanThereIsIsRefused(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	content := noise(9, size)
	wide := packed(t, content, zstd.WithWindowSize(size))
	narrow := packed(t, content[:1<<20], zstd.WithWindowSize(1<<20))
	hidden := append(bytes.Clone(narrow), packed(t, content, zstd.WithWindowSize(size))...) // behind a small one
	skipped := append([]byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc"), wide...)
	const little, enough = 12 << 20, 2*size + 8<<20
	for name, c := range map[string]struct {
		image  []byte
		size   int
		log    int
		memory int64
		fits   string // words of FitMemory's error
		reads  string // words of the error of reading
		remote bool
		kind   errkind.Kind
	}{
		"enough":                    {wide, size, 23, enough, "", "", false, ""},
		"enough, from a server":     {wide, size, 23, enough, "", "", true, ""},
		"a byte too little":         {wide, size, 23, enough - 1, "images/gpt.zst is packed with a window of 8388608 bytes, so unpacking needs up to 25165824 bytes of memory, and 25165823 are available", "", false, errkind.TooLarge},
		"none":                      {wide, size, 23, 0, "and 0 are available", "", false, errkind.TooLarge},
		"behind a frame to skip":    {skipped, size, 23, little, "images/gpt.zst is packed with a window of 8388608 bytes", "", false, errkind.TooLarge},
		"in a later frame":          {hidden, size + 1<<20, 23, little, "", "a window of more than 2097152 bytes, for which this host does not have the memory", false, errkind.TooLarge},
		"in a frame that is unseen": {hidden, size + 1<<20, 23, little, "its metadata allows windows of 8388608 bytes", "", true, errkind.TooLarge},
		"more than it says":         {wide, size, 20, enough, "larger window than compression.maxWindowLog says", "", false, errkind.Corrupt},
		"more than it says, later":  {hidden, size + 1<<20, 20, enough, "", "larger window than compression.maxWindowLog says", true, errkind.Corrupt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := windowedAs(t, c.image, c.size, c.log)
			var i *Image
			if c.remote {
				u, _ := server(t, data, 0, nil)
				var err error
				if i, err = open(t.Context(), t, u, Ignored); err != nil {
					t.Fatal(err)
				}
			} else {
				i = mustOpen(t, save(t, data), Ignored)
			}
			words := c.fits
			err := i.FitMemory(t.Context(), c.memory)
			if err == nil && words == "" {
				words = c.reads
				_, err = i.Partitions()[0].Check(t.Context())
			}
			if c.kind == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantKind(t, err, c.kind)
			if err != nil && !strings.Contains(err.Error(), words) {
				t.Errorf("%v lacks %q", err, words)
			}
			if c.kind == errkind.TooLarge && c.fits != "" && !strings.Contains(errkind.Hint(err), "memory") {
				t.Errorf("the hint is %q", errkind.Hint(err))
			}
		})
	}
}

// Another process writes than the one that has looked.
func TestALimitOfTheWindowHoldsForAnotherProcess(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	data := windowedAs(t, packed(t, noise(9, size), zstd.WithWindowSize(size)), size, 23)
	i := mustOpen(t, save(t, data), Ignored)
	i.LimitWindow(1 << 20)
	_, err := i.Partitions()[0].Check(t.Context())
	wantKind(t, err, errkind.TooLarge)
	i.LimitWindow(0)
	if _, err := i.Partitions()[0].Check(t.Context()); err != nil {
		t.Error(err)
	}
}
