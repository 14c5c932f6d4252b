package storage

import (
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/md"
)

// runningRAID is the host of installedRAID after the loss of members: drop reports whether a
// partition does not serve its array any more.
func runningRAID(t *testing.T, drop func(device string) bool) (*blockdev.Inventory, Request) {
	t.Helper()
	b, inv := installedRAID(t)
	req := request(Update)
	req.Paths = map[string]string{}
	for _, d := range inv.Disks {
		for _, p := range d.Partitions {
			req.Paths[p.Label] = ByPartUUID + p.UUID
		}
	}
	for name, a := range b.over.arrays {
		s := md.State{Kernel: name, Name: a.Name, Level: a.Level, Slots: len(a.Members), UUID: a.UUID, Action: "idle"}
		for i, m := range a.Members {
			if drop(m) {
				s.Missing++
			} else {
				s.Members = append(s.Members, md.Member{Device: m, Slot: i, InSync: true})
			}
		}
		req.Arrays = append(req.Arrays, s)
	}
	return inv, req
}

func onSDB(device string) bool { return strings.HasPrefix(device, "/dev/sdb") }

// withoutSDB removes the second disk from an inventory.
func withoutSDB(inv *blockdev.Inventory) {
	inv.Disks = inv.Disks[:1]
	for i := range inv.Others {
		inv.Others[i].Over = slices.DeleteFunc(slices.Clone(inv.Others[i].Over), func(name string) bool { return strings.HasPrefix(name, "sdb") })
	}
}

func TestAnUpdateOfDegradedArraysIsPlannedWithWarnings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		drop func(string) bool
		have func(*blockdev.Inventory)
		says []string // the warnings
	}{
		"a disk is gone": {onSDB, withoutSDB, []string{
			`partition "esp-2" of disk "two" is missing: array "esp" goes on without it`,
			`array "root-b" (/dev/md/root-b) is degraded: 1 of its 2 members are in sync. To make it whole: trident rebuild-raid`,
		}},
		"an empty disk is in its place": {onSDB, func(inv *blockdev.Inventory) {
			withoutSDB(inv)
			inv.Disks = append(inv.Disks, emptyDisk("sdb", 8*gib))
		}, []string{`partition "data-2" of disk "two" is missing`, `array "data-raw" (/dev/md/data) is degraded`}},
		"members were kicked out, and their disk is read-only": {onSDB, func(inv *blockdev.Inventory) { inv.Disks[1].ReadOnly = true }, []string{`array "root-b" (/dev/md/root-b) is degraded`}},
		"one member has failed":                                {func(d string) bool { return d == "/dev/sda3" }, func(*blockdev.Inventory) {}, []string{`array "root-b"`}},
		"nothing is wrong":                                     {func(string) bool { return false }, func(*blockdev.Inventory) {}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inv, req := runningRAID(t, c.drop)
			c.have(inv)
			plan, err := NewPlan(parse(t, raidConfig), inv, req)
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(plan.Warnings(), "\n")
			for _, want := range c.says {
				if !strings.Contains(all, want) {
					t.Errorf("no warning %q in\n%s", want, all)
				}
			}
			if (all == "") != (c.says == nil) {
				t.Errorf("the warnings are\n%s", all)
			}
			if paths := plan.Paths(); paths["root-b-2"] != req.Paths["root-b-2"] || paths["root-b-2"] == "" {
				t.Errorf("the path of a member is %q, and the host status has %q", paths["root-b-2"], req.Paths["root-b-2"])
			}
			if target, err := plan.Target("root"); err != nil || target.Path != "/dev/md/root-b" || target.Action != Write {
				t.Errorf("the target is %+v, %v", target, err)
			}
			for _, d := range plan.Describe().Disks {
				for _, l := range d.Destroys {
					if c.drop(l.Path) {
						t.Errorf("the plan destroys %s, which nothing writes", l)
					}
				}
			}
		})
	}
}

func TestAMissingDiskIsShownInThePlan(t *testing.T) {
	t.Parallel()
	inv, req := runningRAID(t, onSDB)
	withoutSDB(inv)
	plan, err := NewPlan(parse(t, raidConfig), inv, req)
	if err != nil {
		t.Fatal(err)
	}
	printed(t, "raid-update-degraded", plan)
	if ids := plan.DiskUUIDs(); ids["one"] == "" || len(ids) != 1 {
		t.Errorf("the disks are %v", ids)
	}
}

func TestAnUpdateThatTheArraysCannotTakeIsNotPlanned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*blockdev.Inventory, *Request)
		says  string
	}{
		"no member is in sync": {func(_ *blockdev.Inventory, r *Request) {
			for i := range r.Arrays {
				r.Arrays[i].Missing = r.Arrays[i].Slots
			}
		}, `array "root-b" (/dev/md/root-b) cannot be written: 0 of its 2 members are in sync, and raid1 needs at least 1`},
		"an array is read-only": {func(_ *blockdev.Inventory, r *Request) {
			for i := range r.Arrays {
				r.Arrays[i].ReadOnly = r.Arrays[i].Name == "root-b"
			}
		}, `array "root-b" (/dev/md/root-b) cannot be written: the kernel has made it read-only`},
		"the ESP does not run": {func(inv *blockdev.Inventory, _ *Request) {
			for i := range inv.Others {
				if slices.Contains(inv.Others[i].Links, "/dev/md/esp") {
					inv.Others[i].Size = 0
				}
			}
		}, `array "esp": the host has no /dev/md/esp that runs`},
		"a partition without redundancy is gone": {func(inv *blockdev.Inventory, r *Request) {
			inv.Disks = inv.Disks[1:]
		}, `partition "trident": the host has no partition`},
		"a member is there twice": {func(inv *blockdev.Inventory, r *Request) {
			d := inv.Disks[1]
			d.Name, d.Path = "sdc", "/dev/sdc"
			inv.Disks = append(inv.Disks, d)
		}, `are both /dev/disk/by-partuuid/`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inv, req := runningRAID(t, func(string) bool { return false })
			c.spoil(inv, &req)
			_, err := NewPlan(parse(t, raidConfig), inv, req)
			if err == nil || !strings.Contains(err.Error(), c.says) || errkind.Variant(err) != "GetBlockDevicePath" {
				t.Errorf("got %v (%s)", err, errkind.Variant(err))
			}
		})
	}
}

// A disk with swap alone is no reason to refuse an update; a disk with a file system is.
func TestADiskThatOnlySwapUsesMayBeGone(t *testing.T) {
	t.Parallel()
	const config = `
storage:
  disks:
  - id: one
    device: /dev/sda
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 64M}
    - {id: root-a, type: root, size: 2G}
    - {id: root-b, type: root, size: 2G}
    - {id: trident, size: 64M}
  - id: two
    device: /dev/sdb
    partitionTableType: gpt
    partitions:
    - {id: more, type: swap, size: 1G}
  abUpdate: {volumePairs: [{id: root, volumeAId: root-a, volumeBId: root-b}]}
  filesystems:
  - {deviceId: esp, mountPoint: /boot/efi}
  - {deviceId: root, mountPoint: /}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
`
	inv := func() *blockdev.Inventory {
		return inventory(usedDisk(t, "sda", 8*gib, []old{
			{"esp", mib, 64 * mib, "vfat", blockdev.Use{}}, {"root-a", 65 * mib, 2 * gib, "ext4", blockdev.Use{Mounts: []string{"/"}}}, {"root-b", 3 * gib, 2 * gib, "ext4", blockdev.Use{}},
			{"trident", 6 * gib, 64 * mib, "ext4", blockdev.Use{}},
		}))
	}
	plan, err := NewPlan(parse(t, config+"  swap: [more]\n"), inv(), request(Update))
	if err != nil || len(plan.Warnings()) != 1 || !strings.Contains(plan.Warnings()[0], `partition "more" of disk "two" is missing: swap, or nothing, uses it`) {
		t.Errorf("the plan is %v, %v", plan, err)
	}
	_, err = NewPlan(parse(t, config+"  - {deviceId: more, source: new, mountPoint: /srv}\n"), inv(), request(Update))
	if err == nil || !strings.Contains(err.Error(), `partition "more": the host has no partition label "more"`) {
		t.Errorf("with a file system: %v", err)
	}
}
