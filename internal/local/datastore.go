package local

import (
	"context"
	"path/filepath"

	"github.com/trident-project/trident/internal/hoststate"
)

// DatastorePath returns the path of the datastore of the host below root, as that host
// sees it.
func DatastorePath(root string) (string, error) { return hoststate.Path(root) }

// CopyDatastore writes a new datastore at path that has only the recorded statuses of the
// host below root. It passes each status through clean, which removes secrets. It does not
// disturb a daemon that has the datastore open.
func CopyDatastore(ctx context.Context, root, path string, clean func(string) string) error {
	where, err := hoststate.Path(root)
	if err != nil {
		return err
	}
	return hoststate.CopyStatuses(ctx, filepath.Join(root, where), path, clean)
}
