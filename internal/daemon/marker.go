package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// markerFile, below the root folder, exists while an operation is unsettled.
// tridentd-resume.path starts the daemon for it, at boot too.
const markerFile = "var/lib/trident/unsettled"

// mark returns the runner's callback that keeps the marker. Where nothing
// changes it writes nothing: it runs at every start.
func mark(root string) func(unsettled bool) error {
	path := filepath.Join(root, markerFile)
	return func(unsettled bool) error {
		_, err := os.Lstat(path)
		exists := err == nil
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("mark unsettled work: %w", err)
		case exists == unsettled:
			return nil
		case unsettled:
			err = atomicfile.Write(path, []byte("An operation of Trident has not ended.\n"), 0o600)
		default:
			err = errors.Join(atomicfile.Remove(path), atomicfile.Sweep(path))
		}
		if err != nil {
			return fmt.Errorf("mark unsettled work: %w", err)
		}
		return nil
	}
}
