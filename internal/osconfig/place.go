package osconfig

import (
	"fmt"
	"path/filepath"

	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// Folder is where a folder of a tree is on disk; it is made, mode 0755, where it is
// missing.
func Folder(root, name string) (string, error) {
	at, err := find(root, filepath.Join(name, "file"))
	if err == nil {
		err = at.makeFolders()
	}
	if err != nil {
		return "", fmt.Errorf("make folder %s: %w", name, err)
	}
	return filepath.Dir(at.file()), nil
}

// Link makes name a link that says target. A link or file in its place is replaced.
func Link(root, name, target string) error {
	at, err := find(root, name)
	if err == nil {
		_, err = at.look()
	}
	if err == nil {
		err = at.makeFolders()
	}
	if err == nil {
		err = atomicfile.Symlink(target, at.file())
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}
