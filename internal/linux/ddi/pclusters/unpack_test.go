package pclusters

import (
	"strings"
	"testing"
)

func TestLZ4IsUnpackedWithoutLeavingItsBounds(t *testing.T) {
	for title, c := range map[string]struct {
		in, want string // want "": refused
		size     int
	}{
		"literals":                        {"\x30abc", "abc", 3},
		"a prefix":                        {"\x30abc", "ab", 2},
		"a match":                         {"\x30abc\x03\x00\x10d", "abcabcad"[:8], 8},
		"a match that reads its own copy": {"\x1ca\x01\x00\x10b", strings.Repeat("a", 17) + "b", 18},
		"a long match":                    {"\x1fa\x01\x00\x03", strings.Repeat("a", 23), 23},
		"many literals":                   {"\xf0\x01" + strings.Repeat("x", 16), strings.Repeat("x", 16), 16},

		"nothing":                           {"", "", 3},
		"literals behind the end":           {"\x50abc", "", 5},
		"a distance of zero":                {"\x10a\x00\x00", "", 8},
		"a distance before the begin":       {"\x10a\x02\x00", "", 8},
		"half of a distance":                {"\x10a\x01", "", 8},
		"a length without an end":           {"\xf0\xff\xff", "", 800},
		"too few bytes":                     {"\x30abc", "", 4},
		"a length larger than the content":  {"\xf0\xff\xff\xff\xff\xff\xff\x00ab", "", 20},
		"a match length that has no ending": {"\x1fa\x01\x00", "", 40},
	} {
		out := make([]byte, c.size)
		err := unpackLZ4(out, []byte(c.in))
		if (err != nil) != (c.want == "") || err == nil && string(out) != c.want {
			t.Errorf("%s: %q, %v; want %q", title, out, err, c.want)
		}
	}
}
