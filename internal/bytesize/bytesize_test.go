package bytesize

import (
	"math"
	"testing"
)

func TestSizesForPeople(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n                    int64
		format, plain, short string
	}{
		{0, "0 B", "0 B", "0"},
		{1, "1 B", "1 B", "1"},
		{999, "999 B", "999 B", "999"},
		{1000, "1000 B", "1000 B", "1.0K"},
		{1023, "1023 B", "1023 B", "1.0K"},
		{1024, "1.0 KiB", "1 KiB", "1.0K"},
		{1536, "1.5 KiB", "1.5 KiB", "1.5K"},
		{10 << 10, "10.0 KiB", "10 KiB", "10K"},
		{100<<20 + 600<<10, "100.6 MiB", "101 MiB", "101M"},
		{1023 << 20, "1023.0 MiB", "1023 MiB", "1.0G"},
		{8 << 30, "8.0 GiB", "8 GiB", "8.0G"},
		{9<<30 + 900<<20, "9.9 GiB", "9.9 GiB", "9.9G"},
		{3 << 40, "3.0 TiB", "3 TiB", "3.0T"},
		{5 << 50, "5.0 PiB", "5 PiB", "5.0P"},
		{math.MaxInt64, "8.0 EiB", "8 EiB", "8.0E"},
	} {
		if format, plain, short := Format(c.n), Plain(c.n), Short(c.n); format != c.format || plain != c.plain || short != c.short {
			t.Errorf("%d: got %q, %q, %q; want %q, %q, %q", c.n, format, plain, short, c.format, c.plain, c.short)
		}
	}
}

func TestSizesThatPeopleWrite(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "4096": 4096, "1K": 1 << 10, "100M": 100 << 20, "3G": 3 << 30, "4194304T": 1 << 62} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "K", "-1", "+1", "1.5G", "100 MB", "1k", "1P", "4194305T", "9223372036854775808"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}
