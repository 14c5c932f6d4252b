package blockdev_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// tree is a host as files: names that end in a slash are folders, contents that
// begin with -> are links.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		target, link := strings.CutPrefix(content, "->")
		switch {
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		case link:
			err = errors.Join(err, os.Symlink(target, path))
		default:
			err = errors.Join(err, os.WriteFile(path, []byte(content), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// hostOf is a host with a disk sda of 64 MiB with an EFI system partition and a
// root that an encrypted volume lies on, an empty vdb, and things that are no
// disks.
func hostOf() map[string]string {
	return map[string]string{
		"proc/self/mountinfo": "22 1 0:21 / /proc rw - proc proc rw\n" +
			`30 1 254:0 / /mnt/with\040space rw - ext4 /dev/mapper/root rw` + "\n" +
			"31 1 8:1 / /boot/efi rw - vfat /dev/sda1 rw\n",
		"proc/1/mountinfo":               "31 1 8:1 / /boot/efi rw - vfat /dev/sda1 rw\n40 1 0:50 /sub / rw - btrfs /dev/sda2 rw\n",
		"proc/swaps":                     "Filename Type Size\n/dev/sda3 partition 1 0 -2\n",
		"sys/block/sda":                  "->../devices/sda",
		"sys/block/vdb":                  "->../devices/vdb",
		"sys/block/zram0":                "->../devices/zram0",
		"sys/block/loop0":                "->../devices/loop0",
		"sys/devices/loop0/size":         "0\n",
		"sys/devices/zram0/size":         "8\n",
		"sys/devices/sda/size":           "131072\n",
		"sys/devices/sda/removable":      "1\n",
		"sys/devices/sda/ro":             "0\n",
		"sys/devices/sda/device/model":   "QEMU HARDDISK   \n",
		"sys/devices/sda/device/serial":  "S1\n",
		"sys/devices/sda/sda1/partition": "1\n", "sys/devices/sda/sda1/start": "2048\n", "sys/devices/sda/sda1/size": "2048\n",
		"sys/devices/sda/sda2/partition": "2\n", "sys/devices/sda/sda3/partition": "3\n",
		"sys/devices/sda/sda3/start": "90000\n", "sys/devices/sda/sda3/size": "8\n",
		"sys/class/block/sda/dev": "8:0\n", "sys/class/block/sda1/dev": "8:1\n", "sys/class/block/sda2/dev": "8:2\n", "sys/class/block/sda3/dev": "8:3\n",
		"sys/class/block/dm-0/dev": "254:0\n", "sys/class/block/sda2/holders/dm-0": "",
		"sys/devices/vdb/size": "2048\n", "sys/devices/vdb/ro": "1\n", "sys/devices/vdb/queue/logical_block_size": "4096\n",
		"sys/class/block/vdb/dev": "253:16\n",
		"dev/disk/by-id/ata-1":    "->../../sda", "dev/disk/by-id/ata-1-part1": "->../../sda1", "dev/mine": "->disk/by-id/ata-1",
		"dev/astray": "->../etc/passwd", "dev/round": "->round",
	}
}

func TestAnInventoryHasTheDisksAndTheirUses(t *testing.T) {
	t.Parallel()
	root := tree(t, hostOf())
	sda := filepath.Join(root, "dev/sda")
	f, err := os.Create(sda)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	typ, _ := gpt.ParseGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	table := &gpt.Disk{ID: gpt.GUID{9}, Size: 64 << 20, SectorSize: 512, Entries: []gpt.Entry{
		{Number: 1, Type: typ, ID: gpt.GUID{1}, Offset: 1 << 20, Size: 1 << 20, Name: "esp"},
		{Number: 2, Type: gpt.GUID{2}, ID: gpt.GUID{2}, Offset: 4 << 20, Size: 4 << 20, Name: "root"},
	}}
	luks := append([]byte("LUKS\xba\xbe"), make([]byte, 162)...)
	luks = append(luks, "0e8ddef6-21d3-48f4-bcb7-dae6fed7d4f4"...)
	_, luksErr := f.WriteAt(luks, 4<<20)
	if err := errors.Join(f.Truncate(64<<20), table.Write(f, func(_ string, change func() error) error { return change() }), luksErr); err != nil {
		t.Fatal(err)
	}
	got, err := blockdev.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got.Disks[1].Problem, "its device file cannot be opened") {
		t.Errorf("problem of a disk without a device file: %q", got.Disks[1].Problem)
	}
	got.Disks[1].Problem = ""
	want := &blockdev.Inventory{Disks: []blockdev.Disk{
		{
			Name: "sda", Path: "/dev/sda", Links: []string{"/dev/disk/by-id/ata-1", "/dev/mine"}, Size: 64 << 20, SectorSize: 512,
			Model: "QEMU HARDDISK", Serial: "S1", Removable: true, Table: "gpt", TableID: "09000000-0000-0000-0000-000000000000",
			Partitions: []blockdev.Partition{
				{Number: 1, Name: "sda1", Path: "/dev/sda1", Links: []string{"/dev/disk/by-id/ata-1-part1"}, Offset: 1 << 20, Size: 1 << 20,
					Type: typ.String(), UUID: "01000000-0000-0000-0000-000000000000", Label: "esp", Use: blockdev.Use{Mounts: []string{"/boot/efi"}}},
				{Number: 2, Name: "sda2", Path: "/dev/sda2", Offset: 4 << 20, Size: 4 << 20, Type: "02000000-0000-0000-0000-000000000000",
					UUID: "02000000-0000-0000-0000-000000000000", Label: "root", Content: blockdev.Content{Type: "crypto_LUKS", UUID: "0e8ddef6-21d3-48f4-bcb7-dae6fed7d4f4"},
					Use: blockdev.Use{Mounts: []string{"/", "/mnt/with space"}, Holders: []string{"dm-0"}}},
				{Number: 3, Name: "sda3", Path: "/dev/sda3", Offset: 90000 * 512, Size: 4096, Use: blockdev.Use{Swap: true}},
			},
		},
		{Name: "vdb", Path: "/dev/vdb", Size: 1 << 20, SectorSize: 4096, ReadOnly: true},
	}, Others: []blockdev.Other{{Name: "loop0", Path: "/dev/loop0", Is: "a drive without a medium"}, {Name: "zram0", Path: "/dev/zram0", Is: "memory", Size: 4096}}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(blockdev.Disk{}, "GPT"), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if !table.Equal(got.Disks[0].GPT) {
		t.Errorf("table %+v", got.Disks[0].GPT)
	}
	if d, ok := got.Find("/dev/disk/../mine"); !ok || d.Name != "sda" {
		t.Errorf("found %v by a link", d)
	}
	if _, ok := got.Find("/dev/sda1"); ok {
		t.Error("a partition is a disk")
	}
	if p, ok := got.Partition("/dev/disk/by-id/ata-1-part1"); !ok || p.Number != 1 {
		t.Errorf("found %v by a link", p)
	}
	if s := got.Disks[0].Partitions[1].Use.String(); s != "mounted at / and /mnt/with space, held by dm-0" {
		t.Error(s)
	}
}

func TestATableOfMountsThatCannotBeReadIsAnError(t *testing.T) {
	files := hostOf()
	files["proc/self/mountinfo"] += "rubbish\n"
	if _, err := blockdev.Read(tree(t, files)); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), "/proc/self/mountinfo") {
		t.Errorf("got %v", err)
	}
}

func TestADeviceThatIsNotADiskSaysWhatItIs(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		"sys/block/dm-0/size": "8\n", "sys/block/dm-0/dm/name": "mpatha\n", "sys/block/dm-0/dm/uuid": "mpath-360000000000000000e00000000010001\n",
		"sys/block/dm-0/slaves/sda": "", "sys/block/dm-0/slaves/sdb": "",
		"sys/block/dm-1/dm/name": "mpatha-part1\n", "sys/block/dm-1/dm/uuid": "part1-mpath-360000000000000000e00000000010001\n", "sys/block/dm-1/slaves/dm-0": "",
		"sys/block/dm-2/dm/uuid": "LVM-abc\n", "sys/block/dm-3/dm/uuid": "CRYPT-LUKS2-0123-root\n", "sys/block/dm-4/dm/name": "mine\n",
		"sys/block/dm-5/dm/uuid": "CRYPT-VERITY-0123-usr\n", "sys/block/md127/size": "8\n", "sys/block/sr0/size": "8\n",
		"sys/class/block/dm-0/dev": "254:0\n", "dev/mapper/mpatha": "->../dm-0", "dev/disk/by-id/wwn-1": "->../../dm-0",
	})
	inv, err := blockdev.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	for device, want := range map[string]string{
		"/dev/mapper/mpatha": "a multipath device", "/dev/disk/by-id/wwn-1": "a multipath device", "/dev/dm-0": "a multipath device",
		"/dev/mapper/mpatha-part1": "a partition of a multipath device", "/dev/dm-2": "an LVM volume", "/dev/dm-3": "an encrypted volume",
		"/dev/mapper/mine": "a device-mapper device", "/dev/dm-5": "a dm-verity device", "/dev/md127": "a RAID array", "/dev/sr0": "an optical drive",
	} {
		o, ok := inv.Other(device)
		if !ok || o.Is != want {
			t.Errorf("%s is %+v, want %s", device, o, want)
			continue
		}
		if want == "a multipath device" && !slices.Equal(o.Over, []string{"sda", "sdb"}) {
			t.Errorf("%s lies over %v", device, o.Over)
		}
	}
	if _, ok := inv.Other("/dev/sda"); ok || len(inv.Disks) > 0 {
		t.Errorf("disks %+v", inv.Disks)
	}
}

func TestThisHostCanBeRead(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	inv, err := blockdev.Read("/")
	if err != nil {
		t.Fatal(err)
	}
	mounted := slices.ContainsFunc(inv.Disks, func(d blockdev.Disk) bool {
		return d.Use.InUse() || slices.ContainsFunc(d.Partitions, func(p blockdev.Partition) bool { return p.Use.InUse() })
	})
	if len(inv.Disks) > 0 && !mounted {
		t.Log("no disk is in use here: ", inv)
	}
}

func TestKernelNamesOfPartitions(t *testing.T) {
	t.Parallel()
	for want, n := range map[string]int{"sda1": 1, "vdb12": 12, "nvme0n1p3": 3, "loop0p2": 2} {
		disk := map[string]string{"sda1": "sda", "vdb12": "vdb", "nvme0n1p3": "nvme0n1", "loop0p2": "loop0"}[want]
		if got := blockdev.PartitionName(disk, n); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestATableThatIsOldOrDamagedIsSaid(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	table := &gpt.Disk{ID: gpt.GUID{9}, Size: size, SectorSize: 512, Entries: []gpt.Entry{
		{Number: 1, Type: gpt.GUID{2}, ID: gpt.GUID{1}, Offset: 1 << 20, Size: 1 << 20, Name: "root"},
	}}
	zeros := make([]byte, 34*512)
	for name, c := range map[string]struct {
		hasTable bool
		change   func(f *os.File) error
		table    string
		problem  string
	}{
		"empty":     {false, func(*os.File) error { return nil }, blockdev.TableNone, ""},
		"MBR alone": {false, func(f *os.File) error { _, err := f.WriteAt([]byte{0x55, 0xaa}, 510); return err }, blockdev.TableDOS, ""},
		"backup":    {true, func(f *os.File) error { _, err := f.WriteAt(zeros, 0); return err }, blockdev.TableGPT, "only the backup"},
		"damaged": {true, func(f *os.File) error {
			_, first := f.WriteAt([]byte("x"), 2*512)
			_, last := f.WriteAt([]byte("x"), size-33*512)
			return errors.Join(first, last)
		}, blockdev.TableGPT, "partition table"},
	} {
		root := tree(t, hostOf())
		f, err := os.Create(filepath.Join(root, "dev/sda"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		err = f.Truncate(size)
		if c.hasTable {
			err = errors.Join(err, table.Write(f, func(_ string, change func() error) error { return change() }))
		}
		if err := errors.Join(err, c.change(f)); err != nil {
			t.Fatal(err)
		}
		got, err := blockdev.Read(root)
		if err != nil {
			t.Fatal(err)
		}
		d := got.Disks[0]
		if d.Name != "sda" || d.Table != c.table || d.GPT != nil || (c.problem == "") != (d.Problem == "") || !strings.Contains(d.Problem, c.problem) {
			t.Errorf("%s: table %q, problem %q, %v", name, d.Table, d.Problem, d.GPT)
		}
	}
}

func TestATableOfMountsThatIsTooLargeIsAnError(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"proc/self/mountinfo", "proc/swaps"} {
		files := hostOf()
		files[name] = strings.Repeat("x\n", 5<<20)
		if _, err := blockdev.Read(tree(t, files)); errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), "/"+name) {
			t.Errorf("%s: %v", name, err)
		}
		files[name] = "->" + filepath.Base(name) // a link to itself
		if _, err := blockdev.Read(tree(t, files)); err == nil {
			t.Errorf("%s: a link to itself was read", name)
		}
	}
}

func TestAHostWithoutSysIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := blockdev.Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a host that does not exist was read")
	}
	files := hostOf()
	for name := range files {
		if strings.HasPrefix(name, "sys/block") {
			delete(files, name)
		}
	}
	files["sys/block"] = "a file"
	if _, err := blockdev.Read(tree(t, files)); err == nil {
		t.Error("a host whose /sys/block is a file was read")
	}
}

// A host may show what no host has. Reading it ends, and says why.
func TestAHostWithoutEndIsAnError(t *testing.T) {
	t.Parallel()
	many := func(prefix, content string, n int) map[string]string {
		out := map[string]string{}
		for i := range n {
			out[prefix+strconv.Itoa(i)] = content
		}
		return out
	}
	for name, c := range map[string]struct {
		more map[string]string
		want string
	}{
		"devices in a circle": {map[string]string{"sys/class/block/dm-0/holders/dm-1": "", "sys/class/block/dm-1/holders/dm-0": ""}, "stacked on each other"},
		"devices":             {many("sys/class/block/x", "", 4097), "/sys/class/block has more than 4096 entries"},
		"links": {func() map[string]string {
			out := many("dev/a/", "->/dev/x", 4000)
			maps.Copy(out, many("dev/b/", "->/dev/x", 4000))
			maps.Copy(out, many("dev/c/", "->/dev/x", 4000))
			return out
		}(), "/dev has more than 10000 links"},
	} {
		files := hostOf()
		maps.Copy(files, c.more)
		if _, err := blockdev.Read(tree(t, files)); errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	files := hostOf()
	files["sys/class/block/sda2/holders"] = "a file"
	delete(files, "sys/class/block/sda2/holders/dm-0")
	if _, err := blockdev.Read(tree(t, files)); err == nil {
		t.Error("holders that are a file were read")
	}
}

func TestADeviceWithoutItsDetailsIsStillNamed(t *testing.T) {
	t.Parallel()
	inv, err := blockdev.Read(tree(t, map[string]string{
		"sys/block/fd0/size": "8\n", "sys/block/dm-0/dm/uuid": "CRYPT-PLAIN-x\n", "sys/block/dm-1/dm/uuid": "CRYPT-LUKS2-xyz-root\n", "sys/block/md1/slaves/sdz": "",
	}))
	if err != nil {
		t.Fatal(err)
	}
	for device, want := range map[string]string{"/dev/fd0": "a floppy drive", "/dev/dm-0": "an encrypted volume", "/dev/dm-1": "an encrypted volume", "/dev/md1": "a RAID array"} {
		if o, ok := inv.Other(device); !ok || o.Is != want || o.UUID != "" {
			t.Errorf("%s is %+v, want %s", device, o, want)
		}
	}
}
