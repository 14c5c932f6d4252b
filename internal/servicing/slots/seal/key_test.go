package seal_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/servicing/slots/seal"
)

func TestAKeyFileThatCannotBeUsedIsRefused(t *testing.T) {
	t.Parallel()
	root := hosttest.TempDir(t)
	for name, content := range map[string]string{"empty": "", "long": strings.Repeat("secret", 100), "fine": "a key\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("loop", filepath.Join(root, "loop")); err != nil {
		t.Fatal(err)
	}
	keys := seal.Keys{Root: root}
	for url, want := range map[string]string{
		"http://host/fine": `"http://host/fine" is not a file URL with an absolute path`,
		"file://host/fine": "is not a file URL", "file:fine": "is not a file URL", "%": "is not a file URL",
		"file:///empty": "/empty is empty", "file:///long": "more than 512 bytes", "file:///loop": "too many levels of symbolic links",
	} {
		_, err := keys.Named(url)
		if err == nil || !strings.Contains(err.Error(), want) || errkind.Variant(err) != errkind.NameReadRecoveryKeyFile || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if key, err := keys.Named("file:///fine"); err != nil || string(key) != "a key\n" {
		t.Errorf("%q, %v", []byte(key), err)
	}
}

// A key that cannot be kept until the host reboots is not used, and one that cannot be read is
// not replaced by another one.
func TestAKeyIsMadeOnceOrNotAtAll(t *testing.T) {
	t.Parallel()
	root := hosttest.TempDir(t)
	touch := func(_ string, change func() error) error { return change() }
	keys := seal.Keys{Root: root, Touch: touch}
	hosttest.Write(t, filepath.Join(root, "run/trident"), "")
	if _, err := keys.Made("op"); err == nil || errkind.Variant(err) == "" && errkind.Of(err) == errkind.NotFound {
		t.Errorf("where a file is in the way: %v", err)
	}
	if err := os.Remove(filepath.Join(root, "run/trident")); err != nil {
		t.Fatal(err)
	}
	keys.Touch = func(string, func() error) error { return hosttest.ErrFull }
	if _, err := keys.Made("op"); errkind.Variant(err) != errkind.NameGenerateRecoveryKeyFile {
		t.Errorf("without room: %v", err)
	}
	keys.Touch = touch
	first, err := keys.Made("op")
	if err != nil {
		t.Fatal(err)
	}
	again, err := keys.Made("op")
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the second key differs: %v", err)
	}
	if other, err := keys.Made("other"); err != nil || bytes.Equal(first, other) {
		t.Errorf("two operations have one key: %v", err)
	}
	if err := os.Mkdir(filepath.Join(root, seal.File("third")), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Made("third"); err == nil {
		t.Error("a key that cannot be read was replaced")
	}
}

func TestRegistersForPeople(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]seal.Registers{"no register": nil, "[4 7 11]": {11, 4, 7}} {
		if r.String() != want {
			t.Errorf("%q, want %q", r, want)
		}
	}
}
