package blockdev

import (
	"os"
	"testing"
	"unsafe"
)

// aligned returns n bytes whose address is a multiple of align.
func aligned(n, align int) []byte {
	all := make([]byte, n+align)
	off := -int(uintptr(unsafe.Pointer(unsafe.SliceData(all)))) & (align - 1)
	return all[off : off+n]
}

// A read or a write that bypasses the page cache without being aligned fails (open(2), O_DIRECT).
func TestOnlyLargeAlignedRequestsBypassThePageCache(t *testing.T) {
	t.Parallel()
	buffered, bypass := new(os.File), new(os.File)
	d := &direct{f: bypass, align: 4096}
	large := aligned(leastDirect+8192, 4096)
	for name, tt := range map[string]struct {
		d    *direct
		p    []byte
		off  int64
		want *os.File
	}{
		"large and aligned":         {d, large[:leastDirect], 8192, bypass},
		"small":                     {d, large[:4096], 8192, buffered},
		"of an odd length":          {d, large[:leastDirect+512], 8192, buffered},
		"at an odd offset":          {d, large[:leastDirect], 8192 + 512, buffered},
		"at an odd address":         {d, large[512 : leastDirect+512], 8192, buffered},
		"on a device without it":    {nil, large[:leastDirect], 8192, buffered},
		"of the least size, less 1": {d, large[:leastDirect-1], 8192, buffered},
	} {
		if got := tt.d.fileFor(buffered, tt.p, tt.off); got != tt.want {
			t.Errorf("%s: it bypasses: %v", name, got == bypass)
		}
	}
	if err := (*direct)(nil).close(); err != nil {
		t.Errorf("close a device without it: %v", err)
	}
}
