package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/servicing"
)

// markUnsettled returns the callback of the runner that makes and removes the file
// servicing.UnsettledMark. It runs at every start, and writes only if something changes.
func markUnsettled(root string) func(unsettled bool) error {
	path := filepath.Join(root, servicing.UnsettledMark)
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
			return withReadOnlyHint(fmt.Errorf("mark unsettled work: %w", err))
		}
		return nil
	}
}
