package osconfig

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzOtherLinesStayAsTheyAre(f *testing.F) {
	for name, text := range image {
		if strings.HasPrefix(name, "etc/") {
			f.Add(text)
		}
	}
	f.Add("")
	f.Add("ada")
	f.Add("\n\n+::::::\nada:x\n")
	f.Fuzz(func(t *testing.T, was string) {
		d := &database{name: "f", fields: groupFields, lines: lines(was)}
		line := []string{"ada", "x", "1000", "root"}
		if _, err := d.find("ada"); err != nil {
			return // and then nothing is set
		}
		d.set(line)
		got, err := d.find("ada")
		if err != nil || !slices.Equal(got, line) {
			t.Fatalf("set, and found %q, %v", got, err)
		}
		once := d.text()
		d.set(line)
		if d.text() != once {
			t.Errorf("set again: %q became %q", once, d.text())
		}
		without := func(text string) []string {
			return slices.DeleteFunc(strings.Split(strings.TrimSuffix(text, "\n"), "\n"), func(l string) bool {
				return l == "ada" || strings.HasPrefix(l, "ada:")
			})
		}
		if was != "" && len(without(was)) == len(strings.Split(strings.TrimSuffix(was, "\n"), "\n")) {
			if diff := cmp.Diff(without(was), without(once)); diff != "" {
				t.Error(diff)
			}
		}
	})
}

func TestANewUserIDFollowsTheHighest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		all  []uint32
		want uint32
		ok   bool
	}{
		{nil, 10, true}, {[]uint32{9, 13}, 10, true}, {[]uint32{10}, 11, true}, {[]uint32{10, 12}, 11, true},
		{[]uint32{12, 11}, 10, true}, {[]uint32{10, 11, 12}, 0, false},
	} {
		used := func(id uint32) bool { return slices.Contains(test.all, id) }
		if got, ok := (idRange{10, 12}).next(used, test.all); got != test.want || ok != test.ok {
			t.Errorf("%v: %d, %t", test.all, got, ok)
		}
	}
	if got, ok := (idRange{1, ^uint32(0)}).next(func(uint32) bool { return true }, []uint32{^uint32(0) - 1}); got != ^uint32(0) || !ok {
		t.Errorf("at the end of all numbers: %d, %t", got, ok)
	}
}
