package mount_test

import (
	"os"
	"testing"

	"github.com/trident-project/trident/internal/linux/mount"
	"github.com/trident-project/trident/internal/linux/mount/mounttest"
)

func TestTheHostPassesTheSuite(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	folder := func() mount.FileSystem { return mount.FileSystem{Source: t.TempDir(), Type: mount.Bind} }
	r := mounttest.Rig{Mounter: mount.Host{}, Dir: t.TempDir(), One: folder(), Two: folder(), None: mount.FileSystem{Source: "/nowhere", Type: mount.Bind}}
	on, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Mount(r.One, on); err != nil {
		t.Skip("cannot mount here: ", err)
	}
	name := on.Name()
	if err := on.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Unmount(name); err != nil {
		t.Fatal(err)
	}
	mounttest.Suite(t, r)
}
