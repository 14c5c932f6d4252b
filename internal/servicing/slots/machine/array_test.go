package machine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/linux/mount"
	"github.com/trident-project/trident/internal/storage"
)

// arrays are the arrays that run on a host, or the error of a look at them.
type arrays struct {
	md.Manager
	list   []md.State
	err    error
	differ int64
}

func (a arrays) Arrays(context.Context) ([]md.State, error) { return a.list, a.err }

func (a arrays) Check(_ context.Context, id md.UUID) (int64, error) {
	if id != a.list[0].UUID {
		return 0, errors.New("another array")
	}
	return a.differ, nil
}

// mirrored is a machine with two disks, whose first partitions are an array.
func mirrored(a arrays) Machine {
	inv := &blockdev.Inventory{}
	for i, name := range []string{"sda", "sdb"} {
		id := gpt.GUID{byte(i + 1)}
		inv.Disks = append(inv.Disks, blockdev.Disk{
			Path: "/dev/" + name, SectorSize: 512, GPT: &gpt.Disk{Entries: []gpt.Entry{{Number: 1, ID: id, Offset: 1 << 20, Size: 2 << 20}}},
			Partitions: []blockdev.Partition{{Number: 1, Path: "/dev/" + name + "1", UUID: id.String()}},
		})
	}
	return Machine{Inventory: func() (*blockdev.Inventory, error) { return inv, nil }, Disks: storage.Tools{Arrays: a}}
}

func drives(disks ...byte) (out []efivar.HardDrive) {
	for _, d := range disks {
		out = append(out, efivar.HardDrive{Number: 1, Start: 2048, Size: 4096, Partition: gpt.GUID{d}})
	}
	return out
}

// The members of an ESP that firmware may boot from are those in sync, in the order of their
// slots.
func TestTheMembersOfAnESPThatAreInSyncAreFound(t *testing.T) {
	t.Parallel()
	a, b := md.Member{Device: "/dev/sda1", Slot: 1, InSync: true}, md.Member{Device: "/dev/sdb1", Slot: 0, InSync: true}
	late, spare, gone := md.Member{Device: "/dev/sdb1", Slot: 0}, md.Member{Device: "/dev/sdb1", Slot: -1, InSync: true}, md.Member{Device: "/dev/sdx1", Slot: 0, InSync: true}
	broken := errors.New("mdstat is gone")
	for _, c := range []struct {
		name, device string
		arrays       arrays
		want         []efivar.HardDrive
		says         string
	}{
		{"a partition", "/dev/sdb1", arrays{}, drives(2), ""},
		{"both members", "/dev/md/esp", arrays{list: []md.State{{Name: "root"}, {Name: "esp", Members: []md.Member{a, b}}}}, drives(2, 1), ""},
		{"a member that is rebuilt", "/dev/md/esp", arrays{list: []md.State{{Name: "esp", Members: []md.Member{late, a}}}}, drives(1), ""},
		{"a spare", "/dev/md/esp", arrays{list: []md.State{{Name: "esp", Members: []md.Member{spare, a}}}}, drives(1), ""},
		{"a member whose disk is gone", "/dev/md/esp", arrays{list: []md.State{{Name: "esp", Members: []md.Member{gone, a}}}}, drives(1), ""},
		{"no member", "/dev/md/esp", arrays{list: []md.State{{Name: "esp", Members: []md.Member{gone}}}}, nil, "no disk of this host has it"},
		{"another array", "/dev/md/esp", arrays{list: []md.State{{Name: "root"}}}, nil, "no array of that name runs"},
		{"arrays that cannot be read", "/dev/md/esp", arrays{err: broken}, nil, broken.Error()},
	} {
		got, err := mirrored(c.arrays).ESP(c.device)
		if !slices.Equal(got, c.want) || (err == nil) != (c.says == "") || err != nil && err.Error() != "find the EFI system partition "+c.device+": "+c.says {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestOnlyTheMembersOfAnArrayAreCompared(t *testing.T) {
	t.Parallel()
	m := mirrored(arrays{list: []md.State{{Name: "esp", UUID: md.UUID{1}}}, differ: 4096})
	if n, err := m.CompareESP(t.Context(), "/dev/md/esp"); n != 4096 || err != nil {
		t.Errorf("an array: %d, %v", n, err)
	}
	if n, err := m.CompareESP(t.Context(), "/dev/sda1"); n != 0 || err != nil {
		t.Errorf("a partition: %d, %v", n, err)
	}
	if _, err := m.CompareESP(t.Context(), "/dev/md/other"); errkind.Of(err) != errkind.NotFound || !strings.HasPrefix(err.Error(), "compare the members of /dev/md/other: ") {
		t.Errorf("an array that does not run: %v", err)
	}
	m.Disks.Arrays = struct{ md.Manager }{}
	if n, err := m.CompareESP(t.Context(), "/dev/md/esp"); n != 0 || err != nil {
		t.Errorf("a host that compares nothing: %d, %v", n, err)
	}
}

// recorder records the mounts, and makes none.
type recorder struct {
	list []string
	fail string // the one that fails
}

var errMount = errors.New("the kernel refuses")

func (r *recorder) note(what string) error {
	r.list = append(r.list, what)
	if what == r.fail {
		return errMount
	}
	return nil
}

func (r *recorder) Mount(f mount.FileSystem, on *os.File) error {
	return r.note("mount " + strings.TrimRight(f.Source+" "+f.Type+" "+f.Options, " ") + " on " + filepath.Base(on.Name()))
}

func (r *recorder) Unmount(at string) error { return r.note("unmount " + filepath.Base(at)) }

// A mount ends with its use, whatever fails, and a mount of a killed daemon ends before.
func TestAMountEndsWithItsUse(t *testing.T) {
	t.Parallel()
	errUse := errors.New("the use fails")
	for _, c := range []struct {
		name, fail string
		use        error
		want       error
		did        []string
	}{
		{"all is well", "", nil, nil, []string{"unmount at", "mount /dev/sda1 vfat on at", "use", "unmount at"}},
		{"the use fails", "", errUse, errUse, []string{"unmount at", "mount /dev/sda1 vfat on at", "use", "unmount at"}},
		{"the mount fails", "mount /dev/sda1 vfat on at", nil, errMount, []string{"unmount at", "mount /dev/sda1 vfat on at"}},
		{"an earlier mount stays", "unmount at", nil, errMount, []string{"unmount at"}},
	} {
		r := &recorder{fail: c.fail}
		at := filepath.Join(t.TempDir(), "at")
		err := Machine{Mounts: r}.WithMount(func(_ string, change func() error) error { return change() }, "/dev/sda1", "vfat", at, func() error {
			if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%s: the folder: %v, %v", c.name, info, err)
			}
			return errors.Join(r.note("use"), c.use)
		})
		if !errors.Is(err, c.want) || c.want == nil && err != nil || !slices.Equal(r.list, c.did) {
			t.Errorf("%s: %q, %v", c.name, r.list, err)
		}
	}
	if err := (Machine{Mounts: &recorder{}}).WithMount(func(string, func() error) error { return errMount }, "", "", t.TempDir(), nil); !errors.Is(err, errMount) {
		t.Errorf("the power is cut: %v", err)
	}
}

// The kernel gets the options that keep it from writing to a verified file system.
func TestWhatIsMountedInATree(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	disk := blockdevtest.New(1<<20, 512)
	if _, err := disk.WriteAt([]byte{0x53, 0xef}, 1024+56); err != nil { // the magic number of ext2, 3 and 4
		t.Fatal(err)
	}
	r := &recorder{}
	m := Machine{Mounts: r, Disks: storage.Tools{Open: func(path string, _ bool) (blockdev.Device, error) {
		if path != "/dev/vda1" {
			return nil, os.ErrNotExist
		}
		return disk, nil
	}}}
	fstype, err := m.FSType("/dev/vda1")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(m.MountIn(root, "/data", "/dev/vda1", true), m.MountIn(root, "/tmpfs", "", false), m.MountSystem(root))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"mount /dev/vda1 " + fstype + " on data", "mount tmpfs tmpfs on tmpfs", "mount /dev " + mount.Bind + " on dev", "mount /sys " + mount.Bind + " on sys",
		"mount proc proc on proc", "mount tmpfs tmpfs on run", "mount tmpfs tmpfs on tmp",
	}
	if !slices.Equal(r.list, want) {
		t.Errorf("%q", r.list)
	}
	if err := m.MountVerified(root, "/", "/dev/vda2", true); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "mount /: ") {
		t.Errorf("a device that is missing: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for at, err := range map[string]error{"an overlay": m.MountOverlay(root, "/file/etc", "/var/x", true), "its changes": m.MountOverlay(root, "/etc", "/file/x", true)} {
		if err == nil || !strings.HasPrefix(err.Error(), "mount an overlay on ") {
			t.Errorf("%s in a file: %v", at, err)
		}
	}
	r.fail, r.list = "", nil
	if err := m.MountOverlay(root, "/etc", "/var/x", true); err != nil || len(r.list) != 1 || !strings.HasPrefix(r.list[0], "mount overlay overlay lowerdir=/proc/self/fd/") {
		t.Errorf("an overlay: %q, %v", r.list, err)
	}
	m.Mounts = mounts{errMount}
	if err := m.MountOverlay(root, "/etc", "/var/x", true); !errors.Is(err, errMount) {
		t.Errorf("an overlay that is refused: %v", err)
	}
	if err := missingFolder("/data", unix.EROFS); errkind.Of(err) != errkind.Precondition || errkind.Hint(err) != "Build the image with an empty folder /data." {
		t.Errorf("%s: %v", errkind.Of(err), err)
	}
}
