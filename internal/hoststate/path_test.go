package hoststate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func TestTheHostSaysWhereItsDatastoreIs(t *testing.T) {
	t.Parallel()
	conf := func(content string) string {
		root := t.TempDir()
		dir := filepath.Join(root, "etc/trident")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "trident.conf"), []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
		return root
	}
	for content, want := range map[string]string{
		"": DefaultPath, "# DatastorePath=/x\n": DefaultPath, " DatastorePath=/x\n": DefaultPath, "DatastorePath=\n": DefaultPath,
		"DatastorePath=/srv/d.sqlite":                             "/srv/d.sqlite",
		"Other=1\r\nDatastorePath= /srv//a b.sqlite \r\nLast=1\n": "/srv/a b.sqlite",
		"DatastorePath=/a\nDatastorePath=/b\n":                    "/b",
		"DatastorePath=/../../b\n":                                "/b",
	} {
		if got, err := Path(conf(content)); got != want || err != nil {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	if got, err := Path(t.TempDir()); got != DefaultPath || err != nil {
		t.Errorf("no file: %q, %v", got, err)
	}
	for _, content := range []string{"DatastorePath=here.sqlite\n", "DatastorePath=/a\x00b\n"} {
		if got, err := Path(conf(content)); errkind.Of(err) != errkind.Invalid || errkind.Hint(err) == "" {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	if _, err := Path(conf(strings.Repeat("x", 2<<20))); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("a file without end: %v", err)
	}
}
