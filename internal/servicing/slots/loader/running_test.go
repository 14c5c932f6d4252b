package loader

import (
	"slices"
	"testing"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
)

// The slot that runs, and its root device, are known whether the root file system is on a
// partition, an array or an encrypted volume.
func TestTheRunningSlotIsKnownThroughLayers(t *testing.T) {
	t.Parallel()
	const pair = "  abUpdate: {volumePairs: [{id: root, volumeAId: a, volumeBId: b}]}\n  filesystems: [{deviceId: root, mountPoint: /}]\n"
	for name, tt := range map[string]struct {
		storage string
		is      string
		links   []string // of slot A and slot B
	}{
		"partitions": {"storage:\n" + pair, "", []string{"/dev/disk/by-partuuid/a", "/dev/disk/by-partuuid/b"}},
		"arrays": {"storage:\n  raid: {software: [{id: a, name: ra, level: raid1, devices: [p, q]}, {id: b, name: rb, level: raid1, devices: [r, s]}]}\n" + pair,
			blockdev.Array, []string{"/dev/md/ra", "/dev/md/rb"}},
		"encrypted": {"storage:\n  encryption: {pcrs: [7], volumes: [{id: a, deviceName: va, deviceId: p}, {id: b, deviceName: vb, deviceId: q}]}\n" + pair,
			blockdev.Encrypted, []string{"/dev/mapper/va", "/dev/mapper/vb"}},
	} {
		for _, runs := range []slot.Slot{slot.A, slot.B, 0} {
			t.Run(name+" "+runs.String(), func(t *testing.T) {
				t.Parallel()
				inv, root := &blockdev.Inventory{}, "unknown"
				disk := blockdev.Disk{Name: "sda", Path: "/dev/sda"}
				for i, link := range tt.links {
					part := blockdev.Partition{Number: i + 1, Path: []string{"/dev/sda1", "/dev/sda2"}[i]}
					over := blockdev.Other{Path: []string{"/dev/x-0", "/dev/x-1"}[i], Is: tt.is, Links: []string{link}}
					isRoot := runs.Valid() && slices.Index([]slot.Slot{slot.A, slot.B}, runs) == i
					if isRoot {
						part.Use.Mounts, over.Use.Mounts = []string{"/"}, []string{"/"}
						root = over.Path
					}
					if tt.is != "" {
						part.Use.Holders = []string{over.Path[5:]}
						inv.Others = append(inv.Others, over)
					} else if part.Links = []string{link}; isRoot {
						root = part.Path
					}
					disk.Partitions = append(disk.Partitions, part)
				}
				inv.Disks = []blockdev.Disk{disk}
				l := &Loader{Machine: machine.Machine{Inventory: func() (*blockdev.Inventory, error) { return inv, nil }}}
				r := &record.Record{Asked: hostconfig.NewRecorded(tt.storage)}
				c, err := r.Config()
				if err != nil {
					t.Fatal(err)
				}
				paths := record.DevicesOf(map[string]string{"a": tt.links[0], "b": tt.links[1]})
				if tt.is != "" {
					paths = nil
				}
				if got, err := l.Running(c, paths); got != runs || err != nil {
					t.Errorf("runs from %v, %v", got, err)
				}
				if got := l.RootDevice(); got != root {
					t.Errorf("the root device is %s, want %s", got, root)
				}
			})
		}
	}
}
