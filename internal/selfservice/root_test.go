//go:build root

package selfservice

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/operation"
)

// What the host's file systems do not allow is the host's fault, and is said before
// anything is downloaded.
func TestAStoreThatRunsNoProgramsOrIsReadOnlyIsToldFromABadImage(t *testing.T) {
	shop := newWorkshop(t)
	for name, c := range map[string]struct {
		flags uintptr
		says  string
	}{
		"noexec":    {unix.MS_NOEXEC, "is mounted noexec"},
		"read-only": {unix.MS_RDONLY, "is read-only"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, shop)
				store := filepath.Join(w.disk.root, "var/lib/trident/self")
				if err := os.MkdirAll(store, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := unix.Mount("tmpfs", store, "tmpfs", c.flags, ""); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = unix.Unmount(store, unix.MNT_DETACH) }()
				w.powerOn()
				w.startDaemon()
				synctest.Wait()
				// There is no such image: who asks for it finds that out.
				op := w.end(w.service().Upgrade(context.Background(), fetch.Source{Path: "/none.raw"}, quick))
				if op.Phase != operation.Undone || op.Failure.Kind != errkind.Precondition ||
					!strings.Contains(op.Failure.Message, c.says) || op.Failure.Hint == "" {
					t.Errorf("%s: %+v, want PRECONDITION because it %s", op.Phase, op.Failure, c.says)
				}
				w.shutDown()
			})
		})
	}
}
