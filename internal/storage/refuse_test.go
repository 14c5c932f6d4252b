package storage

import (
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/slot"
)

func TestAPlanThatWouldDoHarmIsNotMade(t *testing.T) {
	t.Parallel()
	const dynamic = "InvalidHostConfigurationDynamic"
	sda := func(change func(*blockdev.Disk)) *blockdev.Inventory {
		d := usedDisk(t, "sda", 16*gib, []old{{"one", mib, gib, "ext4", blockdev.Use{}}, {"two", 2 * gib, gib, "", blockdev.Use{}}})
		change(&d)
		return inventory(d)
	}
	adopting := func(change func(*blockdev.Disk)) *blockdev.Inventory {
		inv := adoptHost(t)
		change(&inv.Disks[0])
		return inv
	}
	two := strings.Replace(abConfig, "  abUpdate:", "  - {id: more, device: /dev/disk/by-id/x, partitionTableType: gpt, partitions: []}\n  abUpdate:", 1)
	fixed := "11111111-2222-4333-8444-555555555555"
	tests := []struct {
		name, config string
		inv          *blockdev.Inventory
		variant      string
		kind         errkind.Kind
		want         string
	}{
		{"no such disk", abConfig, inventory(emptyDisk("sdb", 16*gib)), dynamic, errkind.NotFound, `storage.disks[0].device: InvalidDiskPath: disk "os": the host has no disk /dev/sda`},
		{"a partition", strings.Replace(abConfig, "/dev/sda", "/dev/sda1", 1), sda(func(*blockdev.Disk) {}), dynamic, errkind.Invalid, "InvalidDiskBlockDevicePath"},
		{"one disk twice", two, inventory(emptyDisk("sda", 16*gib, "/dev/disk/by-id/x")), dynamic, errkind.Invalid, `DiskDefinitionsReferToSameDevice: disks "os" (/dev/sda) and "more" (/dev/disk/by-id/x) are both /dev/sda`},
		{"not readable", abConfig, sda(func(d *blockdev.Disk) { d.Table, d.Problem = "", "input/output error" }), dynamic, errkind.Precondition, "GetBlockDeviceInfoForDisk"},
		{"read-only", abConfig, sda(func(d *blockdev.Disk) { d.ReadOnly = true }), "CreatePartitions", errkind.Precondition, "is read-only"},
		{"mounted as a whole", abConfig, sda(func(d *blockdev.Disk) { d.Use.Mounts = []string{"/"} }), "CreatePartitions", errkind.Precondition, "in use as a whole: mounted at /"},
		{"a partition mounted", abConfig, sda(func(d *blockdev.Disk) { d.Partitions[1].Use.Mounts = []string{"/srv"} }), "CreatePartitions", errkind.Precondition, `partition /dev/sda2 "two" would be deleted, and is in use: mounted at /srv`},
		{"a partition held", abConfig, sda(func(d *blockdev.Disk) { d.Partitions[0].Use.Holders = []string{"dm-0"} }), "CreatePartitions", errkind.Precondition, "held by dm-0"},
		{"swapped to", abConfig, sda(func(d *blockdev.Disk) { d.Partitions[0].Use.Swap = true }), "CreatePartitions", errkind.Precondition, "used as swap"},
		{"a stale partition mounted", abConfig, sda(func(d *blockdev.Disk) { d.Table, d.GPT, d.Partitions[0].Use.Mounts = "", nil, []string{"/x"} }), "CreatePartitions", errkind.Precondition, "mounted at /x"},
		{"too small", abConfig, inventory(emptyDisk("sda", 4*gib)), "CreatePartitions", errkind.NoSpace, `disk "os" (/dev/sda): the disk is too small: the partitions need 4.7 GiB, and 4.0 GiB are free`},
		{"nothing left to grow into", abConfig, inventory(emptyDisk("sda", 4840*mib)), "CreatePartitions", errkind.NoSpace, "too small"},
		{"tiny", abConfig, inventory(emptyDisk("sda", 1<<12)), "CreatePartitions", errkind.NoSpace, "too small"},
		{"a UUID that another disk has", abConfig, inventory(emptyDisk("sda", 16*gib), func() blockdev.Disk {
			d := usedDisk(t, "sdb", gib, []old{{"x", mib, mib, "", blockdev.Use{}}})
			d.Partitions[0].UUID = fixed
			return d
		}()), "CreatePartitions", errkind.Precondition, "needs UUID " + fixed + ", which is that of /dev/sdb1"},
		{"a long label", strings.Replace(abConfig, "label: swap space", "label: "+strings.Repeat("x", 37), 1), inventory(emptyDisk("sda", 16*gib)), "CreatePartitions", errkind.Invalid, "longer than the 36"},

		{"adopt from nothing", adoptConfig, inventory(emptyDisk("nvme0n1", gib)), dynamic, errkind.Precondition, "storage.disks[0].adoptedPartitions: AdoptPartitionsOnNonGptPartitionedDisk"},
		{"adopt from a damaged table", adoptConfig, adopting(func(d *blockdev.Disk) { d.GPT, d.Problem = nil, "broken" }), dynamic, errkind.Precondition, "damaged: broken"},
		{"adopt what is not there", adoptConfig, adopting(func(d *blockdev.Disk) { d.GPT.Entries[1].Name = "other" }), "CreatePartitions", errkind.NotFound, `adopt partition "data": no partition of /dev/nvme0n1 has the label "data"`},
		{"adopt one of two", adoptConfig, adopting(func(d *blockdev.Disk) { d.GPT.Entries[0].Name = "data" }), "CreatePartitions", errkind.Precondition, `/dev/nvme0n1p1 and /dev/nvme0n1p2 all have the label "data"`},
		{"adopt one twice", adoptConfig, adopting(func(d *blockdev.Disk) { d.GPT.Entries[1].Name, d.GPT.Entries[2].Name = "", "data" }), "CreatePartitions", errkind.Invalid, `is adopted as "data" already`},
		{"adopt, and delete what is mounted", adoptConfig, adopting(func(d *blockdev.Disk) { d.Partitions[3].Use.Mounts = []string{"/"} }), "CreatePartitions", errkind.Precondition, "mounted at /"},
		{"no gap is large enough", strings.Replace(adoptConfig, "size: 2G", "size: 9500M", 1), adoptHost(t), "CreatePartitions", errkind.NoSpace, "not in one piece"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plan, err := NewPlan(parse(t, tt.config), tt.inv, request(Install))
			if plan != nil || err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Variant(err) != tt.variant || errkind.Of(err) != tt.kind {
				t.Errorf("got %v (%s, %s)", err, errkind.Variant(err), errkind.Of(err))
			}
		})
	}
}

func TestAnErrorHasEveryReasonAgainstAPlan(t *testing.T) {
	t.Parallel()
	d := usedDisk(t, "sda", 16*gib, []old{{"a", mib, gib, "", blockdev.Use{Swap: true}}, {"b", 2 * gib, gib, "", blockdev.Use{Mounts: []string{"/"}}}})
	_, err := NewPlan(parse(t, abConfig), inventory(d), request(Install))
	if err == nil || !strings.Contains(err.Error(), "sda1") || !strings.Contains(err.Error(), "sda2") || errkind.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
}

func TestAnUpdateDoesNotWriteToTheRunningSlot(t *testing.T) {
	t.Parallel()
	host := func() *blockdev.Inventory { return installed(t, abConfig, inventory(emptyDisk("sda", 16*gib))) }
	tests := []struct {
		name    string
		spoil   func(*blockdev.Inventory, *Request)
		variant string
	}{
		{"the slot that runs", func(_ *blockdev.Inventory, r *Request) { r.Slot = slot.A }, "RootDevicePathAbActiveVolumeMismatch"},
		{"the other slot is mounted", func(inv *blockdev.Inventory, _ *Request) { inv.Disks[0].Partitions[2].Use.Mounts = []string{"/mnt"} }, "DeployImages"},
		{"the disk is read-only", func(inv *blockdev.Inventory, _ *Request) { inv.Disks[0].ReadOnly = true }, "DeployImages"},
		{"a partition is gone", func(inv *blockdev.Inventory, _ *Request) {
			inv.Disks[0].Partitions = slices.Delete(inv.Disks[0].Partitions, 2, 3)
		}, "GetBlockDevicePath"},
		{"a label is there twice", func(inv *blockdev.Inventory, _ *Request) { inv.Disks[0].Partitions[0].Label = "root-b" }, "GetBlockDevicePath"},
		{"the host status has another disk", func(_ *blockdev.Inventory, r *Request) {
			r.Paths = map[string]string{"root-b": "/dev/disk/by-partuuid/00000000-0000-4000-8000-000000000000"}
		}, "GetBlockDevicePath"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inv, req := host(), request(Update)
			tt.spoil(inv, &req)
			if plan, err := NewPlan(parse(t, abConfig), inv, req); plan != nil || errkind.Variant(err) != tt.variant {
				t.Errorf("got %v (%s)", err, errkind.Variant(err))
			}
		})
	}
}

func TestAnIncompleteRequestIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Request){
		"purpose": func(r *Request) { r.For = "" }, "slot": func(r *Request) { r.Slot = 0 }, "seed": func(r *Request) { r.Seed = seed[:15] },
	} {
		req := request(Install)
		spoil(&req)
		if _, err := NewPlan(parse(t, abConfig), inventory(emptyDisk("sda", 16*gib)), req); errkind.Of(err) != errkind.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestADeviceThatIsNotADiskIsRefusedWithWhatToName(t *testing.T) {
	t.Parallel()
	for _, other := range []blockdev.Other{
		{Name: "dm-0", Path: "/dev/dm-0", Links: []string{"/dev/disk/by-id/wwn-1", "/dev/mapper/mpatha"}, Is: blockdev.Multipath, Over: []string{"sda", "sdb"}},
		{Name: "dm-1", Path: "/dev/dm-1", Links: []string{"/dev/mapper/vg-lv"}, Is: "an LVM volume", Over: []string{"sda2"}},
	} {
		for _, device := range append(other.Links, other.Path) {
			inv := inventory(emptyDisk("sda", 16*gib), emptyDisk("sdb", 16*gib))
			inv.Others = []blockdev.Other{other}
			_, err := NewPlan(parse(t, strings.Replace(abConfig, "/dev/sda", device, 1)), inv, request(Install))
			if err == nil || errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), device+" is "+other.Is+" ("+other.Name+" over sda") {
				t.Errorf("%s: %v", device, err)
			}
			want := "name a disk"
			if other.Is == blockdev.Multipath {
				want = "name one of its paths, such as /dev/sda or "
			}
			if hint := errkind.Hint(err); !strings.HasPrefix(hint, want) {
				t.Errorf("%s: hint %q", device, hint)
			}
		}
	}
}
