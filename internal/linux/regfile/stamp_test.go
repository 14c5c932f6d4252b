package regfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAStampKnowsEachChangeOfAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	missing := StampOf(path)
	for name, change := range map[string]func() error{
		"written":      func() error { return os.WriteFile(path, []byte("abc"), 0o600) },
		"another mode": func() error { return os.Chmod(path, 0o640) },
		"replaced": func() error {
			other := path + ".new"
			if err := os.WriteFile(other, []byte("abc"), 0o640); err != nil {
				return err
			}
			return os.Rename(other, path)
		},
	} {
		if err := os.WriteFile(path, []byte("a"), 0o600); err != nil {
			t.Fatal(err)
		}
		was := StampOf(path)
		if was.HasChanged() {
			t.Errorf("%s: changed before", name)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if !was.HasChanged() {
			t.Errorf("%s: not changed", name)
		}
	}
	if !missing.HasChanged() {
		t.Error("a file that was missing is there, and not changed")
	}
}
