package machine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/mount"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/storage"
)

// mounts are mounts that nobody makes: they are refused.
type mounts struct{ why error }

func (m mounts) Mount(mount.FileSystem, *os.File) error { return m.why }
func (m mounts) Unmount(string) error                   { return nil }

var errNoMount = errors.New("no such device")

// blank is a machine with one device without a file system.
func blank() Machine {
	return Machine{
		Disks: storage.Tools{Open: func(string, bool) (blockdev.Device, error) { return blockdevtest.New(1<<20, 512), nil }, Runner: run.Func(nil)},
		Inventory: func() (*blockdev.Inventory, error) {
			return &blockdev.Inventory{Disks: []blockdev.Disk{{Path: "/dev/vda"}}}, nil
		},
		Mounts: mounts{errNoMount},
	}
}

func TestADeviceWithoutAFileSystemIsNotMounted(t *testing.T) {
	t.Parallel()
	root, m := t.TempDir(), blank()
	if _, err := m.FSType("/dev/vda1"); err == nil || err.Error() != "/dev/vda1 has no known file system" {
		t.Errorf("its type: %v", err)
	}
	if err := m.MountIn(root, "/data", "/dev/vda1", true); err == nil || err.Error() != "mount /data: /dev/vda1 has no known file system" {
		t.Errorf("mount it: %v", err)
	}
	if err := m.MountSystem(root); !errors.Is(err, errNoMount) || !strings.HasPrefix(err.Error(), "mount /dev: ") {
		t.Errorf("mount the file systems of the kernel: %v", err)
	}
	used := false
	err := m.WithMount(func(_ string, change func() error) error { return change() }, "/dev/vda1", "ext4", filepath.Join(root, "at"), func() error {
		used = true
		return nil
	})
	if !errors.Is(err, errNoMount) || used {
		t.Errorf("use it: %v, used: %v", err, used)
	}
}

func TestAnESPThatNoDiskHasIsNotFound(t *testing.T) {
	t.Parallel()
	m := blank()
	if _, err := m.ESP("/dev/vda1"); err == nil || err.Error() != "find the EFI system partition /dev/vda1: no disk of this host has it" {
		t.Errorf("%v", err)
	}
	if _, _, _, err := espNow(filepath.Join(t.TempDir(), "esp")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its files: %v", err)
	}
	gone := errors.New("the disks are gone")
	m.Inventory = func() (*blockdev.Inventory, error) { return nil, gone }
	if _, err := m.ESP("/dev/vda1"); !errors.Is(err, gone) {
		t.Errorf("without disks: %v", err)
	}
}

// A runner that cannot tell which tools there are lets the tools fail when they run.
func TestToolsAreOnlyMissedWhereTheyCanBeLookedFor(t *testing.T) {
	t.Parallel()
	m := blank()
	if err := m.FindTools([]string{"no-such-tool"}); err != nil {
		t.Errorf("nobody can tell: %v", err)
	}
	m.Disks.Runner = run.Host{}
	err := m.FindTools([]string{"sh", "no-such-tool"})
	if errkind.Of(err) != errkind.Precondition || errkind.Variant(err) != errkind.NameMissingBinary || !strings.Contains(err.Error(), "no-such-tool") || errkind.Hint(err) != "Install it on the host that Trident runs on." {
		t.Errorf("%s, %s: %v (%s)", errkind.Of(err), errkind.Variant(err), err, errkind.Hint(err))
	}
}

// The machine of a host reads what the kernel shows below its root folder.
func TestTheMachineOfAHostReadsItsFiles(t *testing.T) {
	t.Parallel()
	root := hosttest.TempDir(t)
	hosttest.Write(t, filepath.Join(root, "proc/meminfo"), "MemTotal: 4096 kB\nMemAvailable:    2048 kB\n")
	hosttest.Write(t, filepath.Join(root, "run/udev/control"), "")
	m := Real(root, "arm64")
	if bytes, known := m.Available(); !known || bytes != 2<<20 {
		t.Errorf("%d bytes of memory, known: %v", bytes, known)
	}
	if !m.Disks.Udev || m.Arch != "arm64" {
		t.Errorf("%+v", m)
	}
	if _, err := m.Firmware(); errkind.Of(err) != errkind.Precondition {
		t.Errorf("firmware without variables: %v", err)
	}
	hosttest.Write(t, filepath.Join(root, "sys/block/ram0/size"), "2048\n")
	hosttest.Write(t, filepath.Join(root, "proc/self/mountinfo"), "")
	if inv, err := m.Inventory(); err != nil || len(inv.Disks) > 0 { // a disk in memory is none
		t.Errorf("disks: %+v, %v", inv, err)
	}
	if _, known := (Machine{}).Available(); known {
		t.Error("a machine that does not know its memory knows it")
	}
}

// An image that is no file system is refused, as is a file that cannot be read.
func TestAnImageThatIsNoFileSystemIsNotOpened(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	file := filepath.Join(t.TempDir(), "image")
	hosttest.Write(t, file, strings.Repeat("x", 1<<20))
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if files, _, err := openESP(f); err == nil {
		t.Errorf("an ESP of noise is opened: %v", files)
	}
	if at, _, err := openTree(f, "ext4"); err == nil {
		t.Errorf("a tree of noise is opened at %s", at)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openESP(f); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed file: %v", err)
	}
	if _, _, err := openTree(f, "ext4"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a tree in a closed file: %v", err)
	}
}

// The files of an ESP in an image are read through the kernel.
func TestTheFilesOfAnESPInAnImageAreRead(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	file, dir := filepath.Join(t.TempDir(), "esp"), t.TempDir()
	hosttest.Write(t, filepath.Join(dir, "f"), "content")
	tool(t, "mkfs.vfat", "-C", file, "8192")
	tool(t, "mcopy", "-i", file, filepath.Join(dir, "f"), "::f")
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files, done, err := openESP(f)
	if errkind.Of(err) == errkind.Unsupported || errors.Is(err, fs.ErrPermission) {
		t.Skip("needs loop devices: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if data, err := fs.ReadFile(files, "f"); err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
}
