package blockdev_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/trident-project/trident/internal/linux/blockdev"
)

// The root file system is on the uppermost device, and below dm-verity on the partition with
// the data, not on that with the hash tree.
func TestTheDeviceOfTheRootFileSystemIsFound(t *testing.T) {
	t.Parallel()
	root := blockdev.Use{Mounts: []string{"/boot", "/"}}
	held := blockdev.Use{Mounts: []string{"/"}, Holders: []string{"dm-1"}}
	partition := func(path string, use blockdev.Use, content string) blockdev.Partition {
		return blockdev.Partition{Path: path, Use: use, Content: blockdev.Content{Type: content}}
	}
	inv := func(others []blockdev.Other, parts ...blockdev.Partition) *blockdev.Inventory {
		return &blockdev.Inventory{Disks: []blockdev.Disk{{Path: "/dev/sda"}, {Path: "/dev/sdb", Partitions: parts}}, Others: others}
	}
	for name, c := range map[string]struct {
		inv   *blockdev.Inventory
		want  string
		nodes int
	}{
		"nothing":     {inv(nil), "", 0},
		"a partition": {inv(nil, partition("/dev/sdb1", blockdev.Use{Mounts: []string{"/boot"}}, "vfat"), partition("/dev/sdb2", root, "ext4")), "/dev/sdb2", 2},
		"LVM in LUKS": {inv([]blockdev.Other{{Path: "/dev/dm-0", Use: held}, {Path: "/dev/dm-1", Use: root}}, partition("/dev/sdb1", held, "crypto_LUKS")), "/dev/dm-1", 3},
		"dm-verity": {inv([]blockdev.Other{{Path: "/dev/dm-0", Is: blockdev.Verified, Use: root}},
			partition("/dev/sdb1", held, blockdev.HashTree), partition("/dev/sdb2", held, "erofs")), "/dev/sdb2", 3},
	} {
		if got := c.inv.Root(); got != c.want {
			t.Errorf("%s: the root is on %q, want %q", name, got, c.want)
		}
		nodes := c.inv.Nodes()
		if len(nodes) != c.nodes {
			t.Errorf("%s: %+v", name, nodes)
		}
		for _, n := range nodes {
			if same, ok := c.inv.Node(n.Path); !ok || same.Path != n.Path || same.Content != n.Content {
				t.Errorf("%s: %s is %+v", name, n.Path, same)
			}
		}
	}
	use := blockdev.Use{Mounts: []string{"/a", "/b"}, Swap: true, Holders: []string{"dm-0"}}
	if got, want := use.String(), "mounted at /a and /b, used as swap, held by dm-0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A former use of the whole disk beside a partition table is found by its magic numbers, and a
// label that cannot be printed is left out.
func TestLeftoversOfTheWholeDiskAreFound(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	for name, c := range map[string]struct {
		put  func(b []byte)
		want blockdev.Content
	}{
		"nothing":                               {func([]byte) {}, blockdev.Content{}},
		"ZFS":                                   {func(b []byte) { binary.LittleEndian.PutUint64(b[128<<10:], 0x00bab10c) }, blockdev.Content{Type: "zfs_member"}},
		"ZFS at the end, of another byte order": {func(b []byte) { binary.BigEndian.PutUint64(b[size-128<<10+5<<10:], 0x00bab10c) }, blockdev.Content{Type: "zfs_member"}},
		"btrfs":                                 {func(b []byte) { copy(b[64<<10+64:], "_BHRfS_M"); copy(b[64<<10+299:], "data") }, blockdev.Content{Type: "btrfs", UUID: "00000000-0000-0000-0000-000000000000", Label: "data"}},
		"btrfs with a label of control characters": {func(b []byte) { copy(b[64<<10+64:], "_BHRfS_M"); copy(b[64<<10+299:], "a\x1b[2J") }, blockdev.Content{Type: "btrfs", UUID: "00000000-0000-0000-0000-000000000000"}},
		"ext4, as of a partition":                  {func(b []byte) { copy(b[1024+56:], "\x53\xef") }, blockdev.Content{}},
	} {
		b := make([]byte, size)
		c.put(b)
		if got := blockdev.Leftover(bytes.NewReader(b), size); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
