package filekind

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func TestAFileIsReadIfItIsOfTheWantedKindAndNotTooLong(t *testing.T) {
	const limit = 64 << 10
	for name, c := range map[string]struct {
		content []byte
		kind    errkind.Kind // "": it is read
		words   string
	}{
		"a text":                   {[]byte("image: {}\n"), "", ""},
		"nothing":                  {nil, "", ""},
		"a text up to the limit":   {bytes.Repeat([]byte("x"), limit), "", ""},
		"a longer text":            {bytes.Repeat([]byte("x"), limit+1), errkind.TooLarge, "has more than 64 KiB"},
		"a file of another kind":   {marked(0, "hsqs"), errkind.Invalid, "it is a squashfs"},
		"a short file of another":  {[]byte("\x1f\x8bxx"), errkind.Invalid, "it is compressed with gzip"},
		"a long file of no kind":   {bytes.Repeat([]byte{0xfe, 1}, limit), errkind.TooLarge, "has more than 64 KiB"},
		"a short file of no kind ": {[]byte{0xfe, 1}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadFile(path, limit, Config)
			if c.kind == "" {
				if err != nil || !bytes.Equal(got, c.content) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				return
			}
			if errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.words) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v (%s), want %s and %q", err, errkind.Of(err), c.kind, c.words)
			}
		})
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "absent"), limit, Config); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
	if _, err := ReadFile(t.TempDir(), limit, Config); errkind.Of(err) != errkind.Invalid {
		t.Errorf("a folder: %v", err)
	}
}

func TestOnlyAFileSystemHasTheNameOfOne(t *testing.T) {
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"erofs": {marked(1024, "\xe2\xe1\xf5\xe0"), Erofs}, "xfs": {marked(0, "XFSB"), "an XFS"},
		"gzip": {marked(0, "\x1f\x8b"), ""}, "unknown": {[]byte{0xfe, 1}, ""}, "empty": {nil, ""},
	} {
		if got := FileSystem(bytes.NewReader(c.content), int64(len(c.content))); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
