package operation

import (
	"strings"
	"testing"
)

func TestAListIsCutAtANamedStep(t *testing.T) {
	t.Parallel()
	list := []Step[int]{{Name: "begin"}, {Name: "stage"}, {Name: "settle"}}
	names := func(steps []Step[int]) string {
		var out []string
		for _, s := range steps {
			out = append(out, s.Name)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct{ name, until, from string }{
		{"begin", "begin", "begin stage settle"},
		{"stage", "begin stage", "stage settle"},
		{"settle", "begin stage settle", "settle"},
	} {
		if until, from := names(Until(list, c.name)), names(From(list, c.name)); until != c.until || from != c.from {
			t.Errorf("cut at %s: until %q, from %q", c.name, until, from)
		}
	}
	defer func() {
		if text, _ := recover().(string); !strings.Contains(text, `"stages"`) {
			t.Errorf("a step that is not in the list: %q", text)
		}
	}()
	Until(list, "stages")
}
