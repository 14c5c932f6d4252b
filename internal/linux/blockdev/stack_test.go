package blockdev_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/linux/blockdev"
)

const memberSize = 1 << 20

// superblock returns a member of an array with a superblock of version 1.0.
func superblock(name string, id byte) string {
	b := make([]byte, memberSize)
	s := b[(memberSize/512-16)&^7*512:]
	binary.LittleEndian.PutUint32(s, 0xa92b4efc)
	binary.LittleEndian.PutUint32(s[4:], 1)
	for i := range 16 {
		s[16+i] = id
	}
	copy(s[32:64], name)
	return string(b)
}

// stackedHost has the /sys of a host with md(4) and device-mapper: two disks, a mirror of
// sda1 and sdb1 with the root file system, a mirror of sda2 and sdb2 below an encrypted
// volume, and a verity device over sda3 (data) and sda4 (hashes).
func stackedHost() map[string]string {
	files := map[string]string{
		"proc/self/mountinfo": "22 1 9:127 / / rw - ext4 /dev/md127 rw\n30 1 254:0 / /srv rw - ext4 /dev/mapper/srv rw\n31 1 254:1 / /usr ro - erofs /dev/mapper/usr ro\n",
		"proc/swaps":          "Filename Type Size\n",
		"dev/md/root":         "->../md127", "dev/md/data": "->../md126", "dev/mapper/srv": "->../dm-0", "dev/mapper/usr": "->../dm-1",
		"dev/disk/by-id/md-name-any:root": "->../../md127",
	}
	device := func(dir, name, number, sectors string, more map[string]string, over ...string) {
		files["sys/block/"+name] = "->../devices/" + dir + name
		files["sys/class/block/"+name] = "->../../devices/" + dir + name
		at := "sys/devices/" + dir + name + "/"
		files[at+"dev"], files[at+"size"] = number+"\n", sectors+"\n"
		for attribute, value := range more {
			files[at+attribute] = value + "\n"
		}
		for _, below := range over {
			files[at+"slaves/"+below] = "->../../../" + below
			for _, disk := range []string{"sda", "sdb"} {
				if part := "sys/devices/pci/" + disk + "/" + below; below[:3] == disk {
					files[part+"/holders/"+name] = "->../../../../virtual/block/" + name
				}
			}
			if below[:2] == "md" {
				files["sys/devices/virtual/block/"+below+"/holders/"+name] = "->../../" + name
			}
		}
	}
	for i, disk := range []string{"sda", "sdb"} {
		device("pci/", disk, fmt.Sprintf("8:%d", 16*i), "16384", nil)
		for n := range 4 {
			part := fmt.Sprint(disk, n+1)
			at := "sys/devices/pci/" + disk + "/" + part
			files["sys/class/block/"+part] = "->../../devices/pci/" + disk + "/" + part
			maps.Copy(files, map[string]string{at + "/partition": fmt.Sprint(n+1, "\n"), at + "/start": fmt.Sprint(2048*(n+1), "\n"), at + "/size": "2048\n",
				at + "/dev": fmt.Sprintf("8:%d\n", 16*i+n+1)})
		}
		files["dev/"+disk+"1"], files["dev/"+disk+"2"] = superblock("any:root", 1), superblock("other-host:data", 2)
	}
	md := func(level string) map[string]string {
		return map[string]string{"md/level": level, "md/raid_disks": "2", "md/array_state": "clean", "md/degraded": "0"}
	}
	device("virtual/block/", "md127", "9:127", "2032", md("raid1"), "sda1", "sdb1")
	device("virtual/block/", "md126", "9:126", "2032", md("raid1"), "sda2", "sdb2")
	device("virtual/block/", "dm-0", "254:0", "1000", map[string]string{"dm/name": "srv", "dm/uuid": "CRYPT-LUKS2-0e8ddef621d348f4bcb7dae6fed7d4f4-srv"}, "md126")
	device("virtual/block/", "dm-1", "254:1", "2048", map[string]string{"dm/name": "usr", "dm/uuid": "CRYPT-VERITY-0e8ddef621d348f4bcb7dae6fed7d4f4-usr"}, "sda3", "sda4")
	luks := make([]byte, memberSize)
	copy(luks, "LUKS\xba\xbe")
	copy(luks[168:], "0e8ddef6-21d3-48f4-bcb7-dae6fed7d4f4")
	files["dev/md126"] = string(luks)
	return files
}

func TestAnInventoryHasArraysVolumesAndVerityDevices(t *testing.T) {
	t.Parallel()
	root := tree(t, stackedHost())
	if err := os.WriteFile(filepath.Join(root, "dev/md127"), extFour(), 0o600); err != nil {
		t.Fatal(err)
	}
	inv, err := blockdev.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	const volume = "0e8ddef6-21d3-48f4-bcb7-dae6fed7d4f4"
	want := []blockdev.Other{
		{Name: "dm-0", Path: "/dev/dm-0", Links: []string{"/dev/mapper/srv"}, Is: blockdev.Encrypted, Over: []string{"md126"}, Size: 512000, Label: "srv", UUID: volume,
			Use: blockdev.Use{Mounts: []string{"/srv"}}},
		{Name: "dm-1", Path: "/dev/dm-1", Links: []string{"/dev/mapper/usr"}, Is: blockdev.Verified, Over: []string{"sda3", "sda4"}, Size: 1 << 20, Label: "usr",
			Use: blockdev.Use{Mounts: []string{"/usr"}}},
		{Name: "md126", Path: "/dev/md126", Links: []string{"/dev/md/data"}, Is: blockdev.Array, Over: []string{"sda2", "sdb2"}, Size: 2032 * 512, Label: "data",
			UUID: "02020202-0202-0202-0202-020202020202", Level: "raid1", Content: blockdev.Content{Type: "crypto_LUKS", UUID: volume},
			Use: blockdev.Use{Mounts: []string{"/srv"}, Holders: []string{"dm-0"}}},
		{Name: "md127", Path: "/dev/md127", Links: []string{"/dev/disk/by-id/md-name-any:root", "/dev/md/root"}, Is: blockdev.Array, Over: []string{"sda1", "sdb1"}, Size: 2032 * 512,
			Label: "root", UUID: "01010101-0101-0101-0101-010101010101", Level: "raid1", Content: blockdev.Content{Type: "ext4", UUID: "07000000-0000-0000-0000-000000000000"},
			Use: blockdev.Use{Mounts: []string{"/"}}},
	}
	if diff := cmp.Diff(want, inv.Others); diff != "" {
		t.Error(diff)
	}
	if p, ok := inv.Partition("/dev/sda2"); !ok || p.Content != (blockdev.Content{Type: "linux_raid_member", UUID: "02020202-0202-0202-0202-020202020202", Label: "other-host:data"}) ||
		p.Use.String() != "mounted at /srv, held by md126" {
		t.Errorf("a member of an array is %+v", p)
	}
	if p, ok := inv.Partition("/dev/sda4"); !ok || p.Use.String() != "mounted at /usr, held by dm-1" {
		t.Errorf("the hashes of a verity device are %+v", p)
	}
	for name, want := range map[string][]string{"dm-0": {"sda2", "sdb2"}, "dm-1": {"sda3", "sda4"}, "sda1": {"sda1"}} {
		if got := inv.Bottom(name); !slices.Equal(got, want) {
			t.Errorf("%s rests on %v, want %v", name, got, want)
		}
	}
	for device, mount := range map[string]string{"/dev/md/root": "/", "/dev/mapper/srv": "/srv", "/dev/sdb2": "/srv", "/dev/mapper/usr": "/usr"} {
		if n, ok := inv.Node(device); !ok || !slices.Contains(n.Use.Mounts, mount) {
			t.Errorf("%s is %+v", device, n)
		}
	}
	if n, ok := inv.Node("/dev/sda"); ok {
		t.Errorf("a disk is %+v", n)
	}
}

func extFour() []byte {
	b := make([]byte, memberSize)
	copy(b[1024+56:], "\x53\xef")
	b[1024+96], b[1024+104] = 0x40, 7
	return b
}
