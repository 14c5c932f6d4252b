package extension

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

func TestFoldersOfExtensionsAreOpenWhateverTheUmask(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(nil, w.stage(newShop(t).one, ""), w.stage(newShop(t).conf, ""))
	for name, want := range map[string]os.FileMode{"var/lib/extensions": 0o755, "var/lib/confexts": 0o755, storeDir: 0o700} {
		if info, err := os.Stat(filepath.Join(w.root, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// Who can change the folder can have systemd merge what they like.
func TestAFolderThatAUserCanChangeIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files to users")
	}
	t.Parallel()
	w := newWorld(t)
	c := w.plan(nil, w.stage(newShop(t).one, ""))
	dir := filepath.Join(w.root, "var/lib/extensions")
	if err := hosttest.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.store.Apply(t.Context(), c), errkind.Precondition, "belongs to user ID 1000")
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("in it are %v, %v", names, err)
	}
}
