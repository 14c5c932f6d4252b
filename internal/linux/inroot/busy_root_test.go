//go:build root

package inroot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

func TestAFileThatIsMountedOrImmutableOrReadOnlyCannotBeReplaced(t *testing.T) {
	r := tree(t, map[string]string{"d/mounted": "", "d/immutable": "", "source": "", "ro/f": ""})
	mount := func(source, target, fstype string, flags uintptr) {
		t.Helper()
		at := filepath.Join(string(r), target)
		if err := unix.Mount(source, at, fstype, flags, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	mount(filepath.Join(string(r), "source"), "d/mounted", "", unix.MS_BIND)
	d := opened(t, r, "d")
	if err := d.CheckReplaceable("mounted"); errkind.Of(err) != errkind.Precondition || errkind.Hint(err) == "" {
		t.Errorf("mounted: %v", err)
	}
	mount("tmpfs", "ro", "tmpfs", unix.MS_RDONLY)
	if err := opened(t, r, "ro").CheckWritable(); !errors.Is(err, unix.EROFS) {
		t.Errorf("read-only: %v", err)
	}
	if _, err := opened(t, r, "ro").Mkdir("x", 0o755); !errors.Is(err, unix.EROFS) {
		t.Errorf("a folder on a read-only file system: %v", err)
	}
	f, err := os.Open(filepath.Join(string(r), "d/immutable"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const immutable = 0x10 // FS_IMMUTABLE_FL of linux/fs.h
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		t.Skip("the file system of temporary files has no such flag: ", err)
	}
	defer func() { _ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0) }()
	if err := d.CheckReplaceable("immutable"); errkind.Of(err) != errkind.Precondition || errkind.Hint(err) == "" {
		t.Errorf("immutable: %v", err)
	}
	if err := d.Replace("immutable", 0o644, content("new")); err == nil {
		t.Error("an immutable file was replaced")
	}
}
