package isopatch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func placeholder(path string, size int) string {
	head := Magic + ":" + path + ":"
	return head + strings.Repeat("#", size-len(head)-1) + "\n"
}

func patched(t *testing.T, image string, patches ...Patch) (string, error) {
	t.Helper()
	r := strings.NewReader(image)
	p, err := Prepare(t.Context(), r, r.Size(), patches)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := p.Copy(t.Context(), &out, r, r.Size()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "iso")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := io.WriteString(f, image); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(f); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != out.String() {
		t.Errorf("in place and in a copy the result differs: %v", err)
	}
	return out.String(), nil
}

// The expected texts are what upstream's PatchFile makes.
func TestAPatchHasUpstreamsForm(t *testing.T) {
	t.Parallel()
	const size = 200
	for content, want := range map[string]string{
		"a: 1":                   "a: 1\n" + strings.Repeat("#", size-6) + "\n",
		"":                       "\n" + strings.Repeat("#", size-2) + "\n",
		strings.Repeat("x", 200): strings.Repeat("x", 200),
		strings.Repeat("x", 199): strings.Repeat("x", 199) + "\n",
		strings.Repeat("x", 198): strings.Repeat("x", 198) + "\n\n",
		strings.Repeat("x", 197): strings.Repeat("x", 197) + "\n#\n",
	} {
		got, err := patched(t, "before"+placeholder("/etc/trident/config.yaml", size)+"after", Patch{"/etc/trident/config.yaml", []byte(content)})
		if err != nil || got != "before"+want+"after" {
			t.Errorf("%d bytes: %q, %v", len(content), got, err)
		}
	}
}

func TestSeveralPlaceholdersArePatchedAnywhere(t *testing.T) {
	t.Parallel()
	gap := strings.Repeat("z", window-len(Magic)/2) // the magic of b crosses the border of a window
	image := placeholder("/a", 100) + strings.Repeat("y", 50)[:0] + gap[100:] + placeholder("/b", 150) + gap + placeholder("/c", 90)
	got, err := patched(t, image, Patch{"/c", []byte("C")}, Patch{"/a", []byte("A")}, Patch{"/b", []byte("B")})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"A\n##", "zB\n##", "zC\n##"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%q is there %d times", want, strings.Count(got, want))
		}
	}
	if len(got) != len(image) || strings.Contains(got, Magic) {
		t.Errorf("%d bytes, and %d before", len(got), len(image))
	}
	found, err := Find(t.Context(), strings.NewReader(image), int64(len(image)))
	if err != nil || len(found) != 3 || found[1].Path != "/b" || found[1].Size != 150 || found[1].Offset != int64(len(gap)) {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestAPatchThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	one := placeholder("/a", 100)
	for name, c := range map[string]struct {
		image   string
		patches []Patch
		kind    errkind.Kind
		want    string
		hint    string
	}{
		"too large": {one, []Patch{{"/a", make([]byte, 101)}}, errkind.TooLarge, "/a has 101 bytes, and its placeholder has room for 100", ""},
		"two":       {one + "x" + one, []Patch{{"/a", nil}}, errkind.Invalid, "the image has 2 placeholders for /a, at bytes 0 and 101", ""},
		"twice":     {one, []Patch{{"/a", nil}, {"/a", nil}}, errkind.Invalid, "/a is patched twice", ""},
		"other":     {one, []Patch{{"/b", nil}}, errkind.NotFound, "the image has no placeholder for /b", "It has placeholders for: /a"},
		"none":      {"", []Patch{{"/b", nil}}, errkind.NotFound, "no placeholder for /b", "none at all"},
		"inside":    {Magic + ":/a:" + Magic + ":/b:\n", []Patch{{"/b", nil}}, errkind.NotFound, "no placeholder for /b", "placeholders for: /a"},
		"too many":  {strings.Repeat(Magic, maxPlaceholders+1), []Patch{{"/b", nil}}, errkind.TooLarge, "more than 1000 placeholders", ""},
		"no end":    {Magic + ":/a:###", []Patch{{"/a", nil}}, errkind.NotFound, "no placeholder for /a", ""},
		"no path":   {Magic + "::#\n" + Magic + "/a:\n" + Magic + ":/a\n" + Magic, []Patch{{"/a", nil}}, errkind.NotFound, "no placeholder for /a", ""},
	} {
		_, err := patched(t, c.image, c.patches...)
		if errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) || !strings.Contains(errkind.Hint(err), c.hint) {
			t.Errorf("%s: %v (%s)", name, err, errkind.Hint(err))
		}
	}
}

// failing is an image on a bad disk.
type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error)  { return 0, errors.New("I/O error") }
func (failing) WriteAt([]byte, int64) (int, error) { return 0, errors.New("I/O error") }
func (failing) Write([]byte) (int, error)          { return 0, errors.New("I/O error") }

func TestFaultsOfTheDiskAreReported(t *testing.T) {
	t.Parallel()
	image := "x" + placeholder("/a", 100)
	r := strings.NewReader(image)
	p, err := Prepare(t.Context(), r, r.Size(), []Patch{{"/a", nil}})
	if err != nil || len(p.Placeholders()) != 1 {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, e1 := Find(t.Context(), failing{}, 10)
	_, e2 := Find(t.Context(), r, r.Size()+1)
	_, e3 := Find(ended, r, r.Size())
	_, e4 := Prepare(ended, r, r.Size(), nil)
	for i, err := range []error{
		e1, e2, e3, e4, p.Apply(failing{}),
		p.Copy(t.Context(), failing{}, r, r.Size()), p.Copy(ended, io.Discard, r, r.Size()), p.Copy(t.Context(), io.Discard, r, r.Size()+1),
		p.Copy(t.Context(), io.Discard, failing{}, r.Size()), (&Plan{writes: p.writes}).Copy(t.Context(), &after{n: 1}, r, r.Size()),
	} {
		if err == nil {
			t.Errorf("fault %d is not reported", i)
		}
	}
}

// after fails after n writes.
type after struct{ n int }

func (a *after) Write(p []byte) (int, error) {
	if a.n--; a.n < 0 {
		return 0, errors.New("no space")
	}
	return len(p), nil
}

func FuzzPatch(f *testing.F) {
	f.Add([]byte("x"+placeholder("/a", 100)+"y"), []byte("content"))
	f.Add([]byte(Magic+":/a:"+Magic+":/a:\n"), []byte(""))
	f.Add([]byte("MAGICMAGIC:/a:\n"), []byte("a\nb"))
	f.Fuzz(func(t *testing.T, image, content []byte) {
		image = bytes.ReplaceAll(image, []byte("MAGIC"), []byte(Magic)) // a short word is easier to find
		r := bytes.NewReader(image)
		p, err := Prepare(t.Context(), r, r.Size(), []Patch{{"/a", content}})
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := p.Copy(t.Context(), &out, r, r.Size()); err != nil {
			t.Fatal(err)
		}
		at := p.Placeholders()[0]
		got := out.Bytes()
		if len(got) != len(image) || !bytes.HasPrefix(got[at.Offset:], content) {
			t.Fatalf("%q", got)
		}
		if !bytes.Equal(got[:at.Offset], image[:at.Offset]) || !bytes.Equal(got[at.Offset+at.Size:], image[at.Offset+at.Size:]) {
			t.Fatalf("bytes beside the placeholder have changed: %q", got)
		}
	})
}
