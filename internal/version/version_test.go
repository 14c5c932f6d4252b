package version

import (
	"strings"
	"testing"
	"time"
)

func TestVersionsAreOrderedAsSemverSaysThemToBe(t *testing.T) {
	order := []string{"0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
		"1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"}
	for i, a := range order {
		for j, b := range order {
			va, err := Parse(a)
			if err != nil {
				t.Fatal(err)
			}
			vb, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := Compare(va, vb); got != want {
				t.Errorf("Compare(%s, %s) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestBuildMetadataDoesNotCount(t *testing.T) {
	a, _ := Parse("1.0.0+a")
	b, _ := Parse("1.0.0+b")
	if Compare(a, b) != 0 {
		t.Error("1.0.0+a and 1.0.0+b differ")
	}
}

func TestAnInvalidVersionIsRefused(t *testing.T) {
	for _, s := range []string{"", "1", "1.2", "v1.2.3", "1.2.3-", "01.2.3", "1.2.3/../../x", "1.2.3 ", "1.2.3\n",
		"99999999999999999999.0.0", "1.0.0-" + strings.Repeat("a", 80)} {
		if v, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", s, v)
		}
	}
}

func TestTheDateOfABuildIsInSecondsAndMayBeUnknown(t *testing.T) {
	for text, want := range map[string]time.Time{
		"1764338400": time.Date(2025, 11, 28, 14, 0, 0, 0, time.UTC), "": {}, "0": {}, "-1": {}, "2025-11-28": {},
	} {
		if got := dateOf(text); !got.Equal(want) {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
