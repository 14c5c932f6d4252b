package fetch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func TestAFileOfAHostIsBelowItsRoot(t *testing.T) {
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "a b"), []byte("x"), 0o600))
	for _, src := range []Source{{Path: "/a b"}, {URL: "file:///a%20b"}, {URL: "file://localhost/a%20b"}} {
		got, err := src.OnHost(root)
		if must(t, err); got.URL != "" || got.Path != filepath.Join(root, "a b") {
			t.Errorf("%v: %q, %q", src, got.URL, got.Path)
		}
		newRig(t, got).mustGet(t, []byte("x"))
	}
	newRig(t, Source{URL: "file://" + root + "/a%20b"}).mustGet(t, []byte("x"))
	for _, src := range []Source{{Path: "a"}, {URL: "file://elsewhere/a"}, {URL: "file:a"}} {
		_, err := src.OnHost(root)
		wantKind(t, err, errkind.Invalid, "absolute")
		_, err = newRig(t, src).get(t)
		wantKind(t, err, errkind.Invalid, "absolute")
	}
}

func TestOnlyARegistryNeedsTheCredentialsOfAHost(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "etc/trident"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "etc/trident/registry-auth.json"), []byte("broken"), 0o600))
	for _, src := range []Source{{URL: "https://host/x"}, {Path: "/x"}, {UploadSize: 1}} {
		_, err := src.OnHost(root)
		must(t, err)
	}
	_, err := Source{URL: "oci://host/x"}.OnHost(root)
	wantKind(t, err, errkind.Invalid, "read /etc/trident/registry-auth.json")
}

func TestASourceIsNamedWithoutItsSecrets(t *testing.T) {
	for _, c := range []struct {
		src          Source
		name, scheme string
	}{
		{Source{URL: "HTTPS://user:secret@example.org/x.raw?token=secret#secret"}, "https://example.org/x.raw", "https"},
		{Source{URL: "https://secret:x y"}, "https://…", ""},
		{Source{URL: "://secret"}, "a URL", ""},
		{Source{URL: "http:secret"}, "http:", ""},
		{Source{URL: "file:///x?secret"}, "file:///x", "file"},
		{Source{Path: "/x"}, "/x", ""},
		{Source{UploadSize: 1}, "an upload", ""},
	} {
		if got, scheme := c.src.String(), Scheme(c.src.URL); got != c.name || scheme != c.scheme {
			t.Errorf("%q: %q with the scheme %q", c.src.URL, got, scheme)
		}
	}
}
