//go:build root

package atomicfile

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

func TestARemovalOnAReadOnlyFileSystemFailsOnlyForAnExistingFile(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(dir, "f")
	if err := Write(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := Remove(filepath.Join(dir, "none")); err != nil {
		t.Errorf("a file that does not exist: %v", err)
	}
	if err := Remove(file); !errors.Is(err, syscall.EROFS) {
		t.Errorf("a file that exists: %v", err)
	}
	if err := Write(file, nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write: %v", err)
	}
	if err := Symlink("x", file); !errors.Is(err, syscall.EROFS) {
		t.Errorf("link: %v", err)
	}
}
