package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

func TestUnmountAlsoUnmountsAllMountsBelow(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	if err := os.MkdirAll(filepath.Join(source, "inner part"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	var h Host
	if err := mountOn(FileSystem{Source: source, Type: Bind}, target); err != nil {
		t.Skip("cannot mount here: ", err)
	}
	if err := mountOn(FileSystem{Source: "none", Type: "tmpfs", Options: "size=64k"}, filepath.Join(target, "inner part")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(target, "inner part/file"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if err := h.Unmount(target); err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(target); err != nil || len(names) > 0 {
		t.Errorf("left in the target: %v, %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(source, "inner part/file")); err == nil {
		t.Error("the inner mount was seen in the source")
	}
	if err := h.Unmount(target); err != nil {
		t.Errorf("nothing is mounted: %v", err)
	}
}

// mountOn leaves nothing open, which would keep what is mounted busy.
func mountOn(f FileSystem, dir string) error {
	on, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(Host{}.Mount(f, on), on.Close())
}

func TestAMountHasNoSetUserIDPrograms(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	target := t.TempDir()
	var h Host
	for what, test := range map[string]struct {
		FileSystem
		with, without int64
	}{
		"a file system":         {FileSystem{Source: "none", Type: "tmpfs"}, unix.ST_NOSUID | unix.ST_NODEV, unix.ST_NOEXEC},
		"one without programs":  {FileSystem{Source: "none", Type: "tmpfs", NoExec: true}, unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC, 0},
		"devices":               {FileSystem{Source: "/dev", Type: Bind}, unix.ST_NOSUID, unix.ST_NODEV},
		"a folder, no programs": {FileSystem{Source: "/usr", Type: Bind, NoExec: true}, unix.ST_NOSUID | unix.ST_NOEXEC, 0},
	} {
		if err := mountOn(test.FileSystem, target); err != nil {
			t.Skip("cannot mount here: ", err)
		}
		var st unix.Statfs_t
		if err := unix.Statfs(target, &st); err != nil || st.Flags&test.with != test.with || st.Flags&test.without != 0 {
			t.Errorf("%s: flags %#x, %v", what, st.Flags, err)
		}
		if err := h.Unmount(target); err != nil {
			t.Fatal(err)
		}
	}
}

// The folder that is meant is the one that was opened.
func TestALinkThatAppearsDuringAMountCannotRedirectTheMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	at := filepath.Join(dir, "at")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	on, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Mkdir(filepath.Join(dir, "elsewhere"), 0o755), os.Rename(at, filepath.Join(dir, "moved")), os.Symlink("elsewhere", at))
	if err != nil {
		t.Fatal(err)
	}
	var h Host
	err = h.Mount(FileSystem{Source: "none", Type: "tmpfs"}, on)
	if cerr := on.Close(); err != nil || cerr != nil {
		t.Skip("cannot mount here: ", err, cerr)
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err := errors.Join(err, h.Unmount(dir)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(table), " "+dir+"/moved ") || strings.Contains(string(table), " "+dir+"/elsewhere ") {
		t.Errorf("the mounts are\n%s", table)
	}
}

func TestErrorsOfTheKernelHaveTheirKinds(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	target := t.TempDir()
	if err := mountOn(FileSystem{Source: "none", Type: "tmpfs"}, target); err != nil {
		t.Skip("cannot mount here: ", err)
	}
	file, err := os.Create(filepath.Join(target, "open"))
	if err != nil {
		t.Fatal(err)
	}
	var h Host
	if err := h.Unmount(target); errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), target) {
		t.Errorf("unmount with an open file: %v", err)
	}
	if err := errors.Join(file.Close(), h.Unmount(target)); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		FileSystem
		kind  errkind.Kind
		cause error
	}{
		"an unknown type":   {FileSystem{Source: "none", Type: "no-such-fs"}, errkind.Unsupported, unix.ENODEV},
		"an invalid option": {FileSystem{Source: "none", Type: "tmpfs", Options: "size=much"}, errkind.Corrupt, unix.EINVAL},
		"a missing folder":  {FileSystem{Source: target + "/missing", Type: Bind}, errkind.Internal, unix.ENOENT},
	} {
		err := mountOn(c.FileSystem, target)
		if errkind.Of(err) != c.kind || !errors.Is(err, c.cause) || !strings.Contains(err.Error(), "mount "+c.Source+" on "+target) {
			t.Errorf("%s: got %v, of kind %s; want %s", what, err, errkind.Of(err), c.kind)
		}
	}
}

func TestTheErrorOfTheKernelHasAKind(t *testing.T) {
	t.Parallel()
	for cause, kind := range map[error]errkind.Kind{
		unix.ENODEV: errkind.Unsupported, unix.EBUSY: errkind.Precondition, unix.EINVAL: errkind.Corrupt, unix.EUCLEAN: errkind.Corrupt, unix.EPERM: errkind.Of(unix.EPERM),
	} {
		if err := kinded(cause, "ext4"); errkind.Of(err) != kind || !errors.Is(err, cause) {
			t.Errorf("%v: %v (%s)", cause, err, errkind.Of(err))
		}
	}
}
