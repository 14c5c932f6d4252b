package local

import (
	"context"
	"path/filepath"

	"github.com/trident-project/trident/internal/hoststate"
)

// DatastorePath is where the datastore of the host below root is, as that host sees it.
func DatastorePath(root string) (string, error) { return hoststate.Path(root) }

// CopyDatastore writes what is recorded of the host below root to a new file at
// path, each status as clean leaves it, and nothing else of the datastore. It
// does not disturb a daemon that has the datastore open.
func CopyDatastore(ctx context.Context, root, path string, clean func(string) string) error {
	where, err := hoststate.Path(root)
	if err != nil {
		return err
	}
	return hoststate.CopyStatuses(ctx, filepath.Join(root, where), path, clean)
}
