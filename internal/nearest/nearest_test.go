package nearest

import "testing"

func TestANearWordIsFoundAndNoOther(t *testing.T) {
	words := []string{"hostname", "hostName2", "raid", "a", "conservative"}
	for text, want := range map[string]string{
		"hostnane": "hostname", "HOSTNAME": "hostname", "ostname": "hostname", "hostnamee": "hostname",
		"conservativ": "conservative", "cons": "conservative", "ra": "raid", "rid": "raid", "raidx": "raid", "b": "", "": "",
		"hotsnmae": "", "nothing": "", "hostname and much more text": "",
	} {
		if got := Word(text, words); got != want {
			t.Errorf("Word(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestTheDistanceCountsAddedRemovedAndChangedBytes(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"", "abcd", 4}, {"kitten", "sitting", 3}, {"raid", "arid", 2},
		{"flaw", "lawn", 2}, {"same", "same", 0}, {"abcdefgh", "abc", 4},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
