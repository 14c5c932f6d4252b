package settingsfile_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/settingsfile"
)

type item struct {
	Name string
	On   bool
}

type settings struct {
	Name  string
	Names []string
	Count int
	Half  int
	Items []item
	Free  map[string]string
}

func (s *settings) keys() settingsfile.Keys {
	s.Free = map[string]string{}
	return settingsfile.Keys{
		"name":  settingsfile.Text(&s.Name),
		"names": settingsfile.Texts(&s.Names),
		"count": settingsfile.Int(&s.Count),
		"half": settingsfile.Parsed(&s.Half, func(text string) (int, error) {
			n, err := strconv.Atoi(text)
			if err != nil || n%2 != 0 {
				return 0, errkind.WithHint(errors.New("is not even"), "write 2")
			}
			return n / 2, nil
		}),
		"items": settingsfile.List(&s.Items, func(i *item) func(settingsfile.Value) error {
			return settingsfile.Mapping(settingsfile.Keys{"name": settingsfile.Text(&i.Name), "on": settingsfile.Bool(&i.On)})
		}),
		"free": settingsfile.Mapping(settingsfile.Keys{settingsfile.Others: func(v settingsfile.Value) (err error) {
			s.Free[v.Name()], err = v.Text()
			return err
		}}),
		"ignored": settingsfile.Ignore,
	}
}

const (
	maxBytes = 1000
	maxDepth = 16
)

func read(text string, foreign func(error)) (*settings, error) {
	doc, err := settingsfile.Parse([]byte(text), settingsfile.Format{MaxBytes: maxBytes, Foreign: foreign})
	if err != nil {
		return nil, err
	}
	s := &settings{Name: "default", Names: []string{"of", "default"}}
	return s, doc.Read(s.keys())
}

func TestEachValueIsReadAsItIsInTheFile(t *testing.T) {
	t.Parallel()
	got, err := read(`
name: 02:00
names: [1, "two", true]
count: -3
half: "8"
items: [{name: a, on: true}, {on: false}]
free: {a: "", "b.c d": 2}
ignored: {a: &x 1, a: [*x, 2]}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &settings{"02:00", []string{"1", "two", "true"}, -3, 4, []item{{"a", true}, {}}, map[string]string{"a": "", "b.c d": "2"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFileWithoutAValueHasTheDefaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# nothing\n", "---\n", "null\n", "{}\n", "items:\nfree:\n"} {
		got, err := read(text, nil)
		if err != nil || got.Name != "default" || len(got.Names) != 2 || len(got.Items)+len(got.Free) > 0 {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// A fault has the line of its key and the path of keys.
func TestAFaultHasItsPlace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{ // "error|hint"
		"nam: x":                         `line 1: nam: is not a setting|did you mean name?`,
		"\nitems:\n- on: true\n  nam: 1": `line 4: items[0].nam: is not a setting|did you mean name?`,
		"xyzzy: 1":                       `line 1: xyzzy: is not a setting|the settings here are count, free, half, ignored, items, name, names`,
		"name: a\nname: b":               `line 2: name: is there twice|`,
		"free: {a: 1,\n a: 2}":           `line 2: free.a: is there twice|`,
		"ignored: 1\nignored: 2":         `line 2: ignored: is there twice|`,
		"name:":                          `line 1: name: has no value|`,
		"name: [a]":                      `line 1: name: is not a text or a number|`,
		`name: "a\nb"`:                   `line 1: name: has control characters|`,
		"names: x":                       `line 1: names: is not a list|write [first, second]`,
		"names:\n- a\n-":                 `line 3: names[1]: has no value|`,
		"items:\n- x":                    `line 2: items[0]: is not a mapping of keys to values|`,
		"free:\n  a:\n    b: 1":          `line 2: free.a: is not a text or a number|`,
		"- a":                            `line 1: the file is not a mapping of keys to values|`,
		"x":                              `line 1: the file is not a mapping of keys to values|`,
		"count: many":                    `line 1: count: "many" is not a number|`,
		"count: 99999999999999999999":    `line 1: count: "99999999999999999999" is not a number|`,
		"half: 3":                        `line 1: half: is not even|write 2`,
		"items: [{on: yes}]":             `line 1: items[0].on: "yes" is not true or false|`,
		"ignored: &a x\nname: *a":        `line 2: name: is an alias, which this file must not have|`,
		"names: [&a x, *a]":              `line 1: names[1]: is an alias, which this file must not have|`,
		"free: &a {b: 1}\n<<: *a":        `line 2: the file has a key that is not a text|`,
		"free:\n  [a]: b":                `line 2: free: has a key that is not a text|`,
		`"a\nb": 1`:                      `line 1: "a\nb": is not a setting|the settings`,
		strings.Repeat("k", 99) + ": 1":  `line 1: "` + strings.Repeat("k", 60) + `": is not a setting|the settings`,
		"name: a\n---\nname: b":          `line 2: a second document begins, and the file must have one|`,
		"name: a\n---\n[":                `the text is not YAML: |`,
		"\n\nname: }":                    `line 3: the text is not YAML: |`,
		"\n\tname: x":                    `line 2: the text is not YAML: |`,
		"name: *a":                       `line 1: the text is not YAML: |`,
		"name: \xff":                     `the text is not UTF-8|`,
		strings.Repeat("[", maxDepth+1):  `the text is not YAML: |`,
	} {
		_, err := read(text, nil)
		message, hint, _ := strings.Cut(want, "|")
		if errkind.Of(err) != errkind.Invalid || !strings.HasPrefix(err.Error(), message) && !strings.Contains(err.Error(), ": "+message) ||
			!strings.HasPrefix(errkind.Hint(err), hint) || hint == "" && errkind.Hint(err) != "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v; hint %q\n\tand want %s", text, err, errkind.Hint(err), want)
		}
	}
	if _, err := read(strings.Repeat("#", maxBytes), nil); err != nil {
		t.Error(err)
	}
	if _, err := read(strings.Repeat("#", maxBytes+1), nil); errkind.Of(err) != errkind.TooLarge || err.Error() != "the file has more than 1000 bytes" {
		t.Error(err)
	}
}

func TestAForeignFileMayHaveMore(t *testing.T) {
	t.Parallel()
	var faults []string
	got, err := read("name:\nother: {a: 1}\nnames: &a [x]\nitems: [{name: i, nam: *a}, null]\ncount: null\n", func(fault error) {
		faults = append(faults, fault.Error()+"|"+errkind.Hint(fault))
	})
	want := &settings{Name: "default", Names: []string{"x"}, Items: []item{{Name: "i"}, {}}, Free: map[string]string{}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	wantFaults := []string{"line 2: other: is not a setting|the settings here are count, free, half, ignored, items, name, names", "line 4: items[0].nam: is not a setting|did you mean name?"}
	if diff := cmp.Diff(wantFaults, faults); diff != "" {
		t.Error(diff)
	}
	ignore := func(error) {}
	if got, err = read("names: &a [x]\nfree: &b {k: v}\nignored: &c 4\nhalf: *c\nitems: [&d {name: n}, *d]\n", ignore); err != nil || got.Half != 2 || len(got.Items) != 2 || got.Items[1].Name != "n" {
		t.Errorf("%+v, %v", got, err)
	}
	faults = nil
	if _, err := read("free: &a {k: v}\n<<: *a\n", func(fault error) { faults = append(faults, fault.Error()) }); err != nil || len(faults) != 1 {
		t.Errorf("a merge key: %q, %v", faults, err)
	}
	for _, text := range []string{"name: a\nname: b", "name: &a [*a]", "name: a\n---\nname: b", "names: x"} {
		if _, err := read(text, ignore); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("name: a\nnames: [&x b, *x]\nitems: [{on: true}]\nfree: {a: b}\n"), true)
	f.Add([]byte("items: &a [*a]\nname: b\n---\n"), true)
	f.Add([]byte("<<: {name: a}\n\"\\0\": 1"), false)
	f.Fuzz(func(t *testing.T, text []byte, isForeign bool) {
		var foreign func(error)
		if isForeign {
			foreign = func(error) {}
		}
		_, err := read(string(text), foreign)
		if err == nil {
			return
		}
		if kind := errkind.Of(err); kind != errkind.Invalid && (kind != errkind.TooLarge || len(text) <= maxBytes) {
			t.Errorf("kind %s: %v", kind, err)
		}
		if strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%q is not one line", err)
		}
	})
}
