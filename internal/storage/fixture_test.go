package storage

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/slot"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	gib     = 1 << 30
	byPath1 = "/dev/disk/by-path/pci-0000:00:1f.2-ata-2.0"
)

var seed = []byte("the seed of tests")

func request(what Purpose) Request {
	r := Request{For: what, Slot: slot.A, Seed: seed, Arch: "amd64"}
	if what == Update {
		r.Slot = slot.B
	}
	return r
}

// parse reads the storage section of a document that has all that the rules ask
// for beside it.
func parse(t testing.TB, text string) *hostconfig.Storage {
	t.Helper()
	const image = "image:\n  url: file:///image.cosi\n  sha384: ignored\n"
	config, report := hostconfig.Parse([]byte(image+text), rules.Check)
	if config == nil {
		t.Fatal(report.Err())
	}
	return &config.Spec().Storage
}

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

// emptyDisk is a disk without anything on it.
func emptyDisk(name string, size int64, links ...string) blockdev.Disk {
	return blockdev.Disk{Name: name, Path: "/dev/" + name, Links: links, Size: size, SectorSize: 512, Model: "QEMU HARDDISK", Serial: "S-" + name}
}

func guid(t testing.TB, text string) gpt.GUID {
	t.Helper()
	id, err := gpt.ParseGUID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// old is a partition as another installation left it.
type old struct {
	label   string
	offset  int64
	size    int64
	content string
	use     blockdev.Use
}

// usedDisk is a disk with partitions 1, 2, …
func usedDisk(t testing.TB, name string, size int64, parts []old, links ...string) blockdev.Disk {
	d := emptyDisk(name, size, links...)
	table := &gpt.Disk{ID: guid(t, "aaaaaaaa-0000-4000-8000-000000000000"), Size: size, SectorSize: 512}
	for i, o := range parts {
		e := gpt.Entry{
			Number: i + 1, Type: guid(t, "0fc63daf-8483-4772-8e79-3d69d8477de4"), Name: o.label,
			ID: gpt.GUID{0: 0xaa, 6: 0x40, 8: 0x80, 15: byte(i + 1)}, Offset: o.offset, Size: o.size,
		}
		table.Entries = append(table.Entries, e)
		part := blockdev.PartitionName(name, e.Number)
		d.Partitions = append(d.Partitions, blockdev.Partition{
			Number: e.Number, Name: part, Path: "/dev/" + part, Offset: e.Offset, Size: e.Size, Type: e.Type.String(), UUID: e.ID.String(),
			Label: e.Name, Content: blockdev.Content{Type: o.content}, Use: o.use,
		})
	}
	d.GPT, d.Table, d.TableID = table, blockdev.TableGPT, table.ID.String()
	return d
}

func inventory(disks ...blockdev.Disk) *blockdev.Inventory { return &blockdev.Inventory{Disks: disks} }

// abConfig is a host with A/B volumes, swap, a tmpfs and a partition that grows.
const abConfig = `
storage:
  disks:
  - id: os
    device: /dev/sda
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 64M}
    - {id: root-a, type: root, size: 2G}
    - {id: root-b, type: root, size: 2G}
    - {id: overlay-a, size: 16M}
    - {id: overlay-b, size: 16M}
    - {id: swap, type: swap, size: 512M, label: swap space}
    - {id: trident, size: 131076K, uuid: 11111111-2222-4333-8444-555555555555}
    - {id: home, type: home, size: grow}
  abUpdate:
    volumePairs:
    - {id: root, volumeAId: root-a, volumeBId: root-b}
    - {id: overlay, volumeAId: overlay-a, volumeBId: overlay-b}
  filesystems:
  - {deviceId: home, source: new, type: xfs, mountPoint: /home}
  - {deviceId: esp, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: root, mountPoint: /}
  - {deviceId: overlay, source: new, mountPoint: /var/lib/trident-overlay}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
  - {source: new, type: tmpfs, mountPoint: {path: /var/tmp, options: "size=1G"}}
  swap: [swap]
`

// adoptConfig keeps two partitions of a disk and puts others between them.
const adoptConfig = `
storage:
  disks:
  - id: os
    device: /dev/nvme0n1
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 64M}
    - {id: root, type: root, size: 2G}
    - {id: rest, size: grow}
    adoptedPartitions:
    - {id: data, matchLabel: data}
    - {id: tools, matchUuid: aa000000-0000-4000-8000-000000000003}
  filesystems:
  - {deviceId: esp, mountPoint: /boot/efi}
  - {deviceId: root, mountPoint: /}
  - {deviceId: data, source: adopted, mountPoint: /srv/data}
`

// adoptHost is a host to adopt from: data is in use and stays.
func adoptHost(t testing.TB) *blockdev.Inventory {
	return inventory(usedDisk(t, "nvme0n1", 16*gib, []old{
		{"old esp", mib, 100 * mib, "vfat", blockdev.Use{}},
		{"data", 200 * mib, 4 * gib, "ext4", blockdev.Use{Mounts: []string{"/mnt"}}},
		{"tools", 6 * gib, gib, "xfs", blockdev.Use{}},
		{"old root", 8 * gib, 4 * gib, "btrfs", blockdev.Use{}},
	}))
}

// raidConfig is a host with two disks: mirrors for the ESP and for both root file systems,
// and a mirror below encrypted data, beside encrypted swap.
const raidConfig = `
storage:
  disks:
  - id: one
    device: /dev/sda
    partitionTableType: gpt
    partitions:
    - {id: esp-1, type: esp, size: 64M}
    - {id: root-a-1, type: root, size: 2G}
    - {id: root-b-1, type: root, size: 2G}
    - {id: data-1, size: 1G}
    - {id: swap-raw, type: swap, size: 512M}
    - {id: trident, size: 128M}
  - id: two
    device: /dev/sdb
    partitionTableType: gpt
    partitions:
    - {id: esp-2, type: esp, size: 64M}
    - {id: root-a-2, type: root, size: 2G}
    - {id: root-b-2, type: root, size: 2G}
    - {id: data-2, size: 1G}
  raid:
    software:
    - {id: esp, name: esp, level: raid1, devices: [esp-1, esp-2]}
    - {id: root-a, name: root-a, level: raid1, devices: [root-a-1, root-a-2]}
    - {id: root-b, name: root-b, level: raid1, devices: [root-b-1, root-b-2]}
    - {id: data-raw, name: data, level: raid1, devices: [data-1, data-2]}
  encryption:
    pcrs: [7]
    volumes:
    - {id: data, deviceName: srv, deviceId: data-raw}
    - {id: swap, deviceName: swap, deviceId: swap-raw}
  abUpdate:
    volumePairs:
    - {id: root, volumeAId: root-a, volumeBId: root-b}
  filesystems:
  - {deviceId: esp, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: root, mountPoint: /}
  - {deviceId: data, source: new, mountPoint: /srv}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
  swap: [swap]
`
