package hostconfig

import (
	"testing"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"grow": Grow, "4096": 4096, "4K": 4096, "8M": 8 << 20, "8G": 8 << 30, "3T": 3 << 40, "1073741824": 1 << 30, "12288": 12288,
		"8 G": 8 << 30, " 16 M\t": 16 << 20, " 4096 ": 4096,
	} {
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
		if again, err := parseSize(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s, which is %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "0", "K", "1", "4097", "1K", "-4096", "8m", "8 0G", "G 8", "8GB", "1.5G", "Grow", "99999999T", "18446744073709551616", "0x1000"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is taken as %d", text, got)
		}
	}
}
