package newos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// HandOver copies the datastore, with this operation, and the logs into the installed
// system, which continues the operation. It only warns if it cannot copy the logs.
func (o *OS) HandOver(ctx context.Context, r *record.Run) error {
	return o.withTree(ctx, r, false, func(c *hostconfig.Config, root string) error {
		store, mark, err := inheritedFiles(c, root)
		if err != nil {
			return err
		}
		err = o.Touch("hand over", func() error {
			if err := errors.Join(o.Store.Snapshot(ctx, store), os.WriteFile(mark, nil, 0o600)); err != nil {
				return err
			}
			return errors.Join(osconfig.Inherit(store), osconfig.Inherit(mark)) // the step "labels" is done
		})
		if err != nil {
			return errkind.WithName(fmt.Errorf("hand the datastore over: %w", err), errkind.NameDatastore)
		}
		if err := o.Touch("hand over logs", func() error { return o.HandOverLogs(ctx, r.ID, filepath.Dir(store)) }); err != nil {
			r.Logf(slog.LevelWarn, "the new system does not get the logs: %v", err)
		}
		return nil
	})
}

// inheritedFiles returns the paths, on this host, of the datastore and the unsettled mark in
// the OS below root. It makes their folders.
func inheritedFiles(c *hostconfig.Config, root string) (store, mark string, err error) {
	at, _ := change.DatastorePath(c)
	if store, err = inOwnFolder(root, at); err != nil {
		return "", "", err
	}
	mark, err = inOwnFolder(root, "/"+change.UnsettledMark)
	return store, mark, err
}

// inOwnFolder returns the path on this host of a file in a tree. It makes a missing folder,
// which only root may change.
func inOwnFolder(root, name string) (string, error) {
	dir, err := inroot.FS(root).MakeDir(filepath.Dir(name), 0o755)
	if err != nil {
		return "", err
	}
	at, err := dir.OnHost()
	return filepath.Join(at, filepath.Base(name)), errors.Join(err, dir.Close())
}
