package storage

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/slot"
)

func twoDisks() *blockdev.Inventory {
	return inventory(emptyDisk("sda", 16*gib), emptyDisk("sdb", 16*gib))
}

// installedRAID is a bench on which the plan for raidConfig was applied, and what a daemon
// sees there that runs from slot A.
func installedRAID(t *testing.T) (*bench, *blockdev.Inventory) {
	t.Helper()
	plan, err := NewPlan(parse(t, raidConfig), twoDisks(), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, twoDisks())
	if err := plan.Apply(t.Context(), b.tools(), nil); err != nil {
		t.Fatal(err)
	}
	inv := b.inventory(twoDisks())
	o, ok := inv.Other("/dev/md/root-a")
	if !ok {
		t.Fatalf("there is no root: %+v", inv.Others)
	}
	o.Use.Mounts = []string{"/"}
	for i := range inv.Disks {
		for j := range inv.Disks[i].Partitions {
			if p := &inv.Disks[i].Partitions[j]; slices.Contains(p.Use.Holders, o.Name) {
				p.Use.Mounts = []string{"/"}
			}
		}
	}
	return b, inv
}

func TestAnUpdateKeepsLayersAndWritesThoseOfTheOtherSlot(t *testing.T) {
	t.Parallel()
	_, inv := installedRAID(t)
	plan, err := NewPlan(parse(t, raidConfig), inv, request(Update))
	if err != nil {
		t.Fatal(err)
	}
	printed(t, "raid-update", plan)
	if got, err := plan.Target("root"); err != nil || got.Path != "/dev/md/root-b" || got.Action != Write || len(got.Partitions) != 2 || got.SectorSize != 512 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := plan.Target("data"); err != nil || got.Path != "/dev/mapper/srv" || got.Action != Keep {
		t.Errorf("%+v, %v", got, err)
	}
	if tools := plan.Tools(); len(tools) > 0 {
		t.Errorf("an update of images alone needs %v", tools)
	}
}

func TestAnUpdateThatDoesNotFindItsLayersIsNotPlanned(t *testing.T) {
	t.Parallel()
	other := func(inv *blockdev.Inventory, path string) *blockdev.Other {
		o, ok := inv.Other(path)
		if !ok {
			t.Fatalf("there is no %s", path)
		}
		return o
	}
	for _, c := range []struct {
		name    string
		spoil   func(*blockdev.Inventory, *Request)
		variant string
		says    string
	}{
		{"the slot that runs", func(_ *blockdev.Inventory, r *Request) { r.Slot = slot.A }, "RootDevicePathAbActiveVolumeMismatch", `array "root-a" (/dev/md/root-a) is of volume-a`},
		{"an array does not run", func(inv *blockdev.Inventory, _ *Request) { other(inv, "/dev/md/root-b").Size = 0 }, "GetBlockDevicePath", `array "root-b": the host has no /dev/md/root-b that runs`},
		{"an array has another name", func(inv *blockdev.Inventory, _ *Request) { other(inv, "/dev/md/root-b").Links = nil }, "GetBlockDevicePath", "has no /dev/md/root-b"},
		{"a volume is closed", func(inv *blockdev.Inventory, _ *Request) { other(inv, "/dev/mapper/srv").Links = nil }, "GetBlockDevicePath", `encrypted volume "data": the host has no /dev/mapper/srv`},
		{"an array of other partitions", func(inv *blockdev.Inventory, _ *Request) {
			other(inv, "/dev/md/root-b").Over = []string{"sda3", "sda4"}
		}, "GetBlockDevicePath", "/dev/md/root-b is on /dev/sda4"},
		{"the other slot is mounted", func(inv *blockdev.Inventory, _ *Request) {
			other(inv, "/dev/md/root-b").Use.Mounts = []string{"/mnt"}
		}, "DeployImages", `array "root-b" (/dev/md/root-b) is to be written, and cannot be: mounted at /mnt`},
		{"a disk is read-only", func(inv *blockdev.Inventory, _ *Request) { inv.Disks[1].ReadOnly = true }, "DeployImages", "its disk is read-only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, inv := installedRAID(t)
			req := request(Update)
			c.spoil(inv, &req)
			if _, err := NewPlan(parse(t, raidConfig), inv, req); err == nil || errkind.Variant(err) != c.variant || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v (%s)", err, errkind.Variant(err))
			}
		})
	}
	t.Run("an array is degraded", func(t *testing.T) {
		_, inv := installedRAID(t)
		other(inv, "/dev/md/root-b").Over = []string{"sda3"}
		if _, err := NewPlan(parse(t, raidConfig), inv, request(Update)); err != nil {
			t.Error(err)
		}
	})
}

// A host that is installed again has the arrays and open volumes of the installation before.
func TestArraysAndVolumesOnTheDisksAreNamedAndEnded(t *testing.T) {
	t.Parallel()
	req := request(Install)
	req.Seed = []byte("the seed of somebody else")
	spec := parse(t, raidConfig)
	for cuts := range 8 { // of which six touches end devices
		b, _ := installedRAID(t)
		plan, err := NewPlan(spec, b.inventory(twoDisks()), req)
		if err != nil {
			t.Fatal(err)
		}
		if cuts == 0 {
			printed(t, "raid-again", plan)
		}
		n := 0
		err = plan.Apply(t.Context(), b.tools(), func(_ string, change func() error) error {
			if n++; n > cuts {
				return errCut
			}
			return change()
		})
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		b.powerCut(rand.New(rand.NewPCG(1, uint64(cuts))))
		b.over.assemble(b.inventory(twoDisks()))
		if plan, err = NewPlan(spec, b.inventory(twoDisks()), req); err != nil {
			t.Fatal(err)
		}
		if err := plan.Apply(t.Context(), b.tools(), nil); err != nil {
			t.Fatal(err)
		}
		b.check(t, plan, "installed again")
	}
}

// The power fails while mdadm(8) writes the superblocks.
func TestAHalfMadeArrayIsMadeAgain(t *testing.T) {
	t.Parallel()
	spec := parse(t, raidConfig)
	plan, err := NewPlan(spec, twoDisks(), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, twoDisks())
	b.over.failAt = "/dev/sdb3"
	if err := plan.Apply(t.Context(), b.tools(), nil); !errors.Is(err, errCut) || errkind.Variant(err) != "CreateRaid" {
		t.Fatal(err)
	}
	b.powerCut(rand.New(rand.NewPCG(1, 1)))
	b.over.assemble(b.inventory(twoDisks()))
	inv := b.inventory(twoDisks())
	if o, ok := inv.Other("/dev/md/root-b"); !ok || len(o.Over) != 1 {
		t.Fatalf("there is no half of an array: %+v", inv.Others)
	}
	if plan, err = NewPlan(spec, inv, request(Install)); err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(t.Context(), b.tools(), nil); err != nil {
		t.Fatal(err)
	}
	b.check(t, plan, "after half an array")
}

func TestVolumesAreOpenedAgainAfterAReboot(t *testing.T) {
	t.Parallel()
	plan, err := NewPlan(parse(t, raidConfig), twoDisks(), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := installedRAID(t)
	b.powerCut(rand.New(rand.NewPCG(1, 1)))
	b.over.assemble(b.inventory(twoDisks()))
	var touched []string
	for range 2 {
		err := plan.Reopen(t.Context(), b.tools(), func(name string, change func() error) error {
			touched = append(touched, name)
			return change()
		})
		if err != nil {
			t.Fatal(err)
		}
		b.checkLayers(t, plan, "opened again")
	}
	if got := strings.Join(touched, ", "); got != "open data, open swap, open data, open swap" {
		t.Error(got)
	}
}

func TestApplyWaitsForArrays(t *testing.T) {
	t.Parallel()
	const wait = "  encryption:\n"
	for name, c := range map[string]struct {
		config  string
		syncing int
		says    string
	}{
		"the ESP":     {raidConfig, 9, ""},
		"all":         {strings.Replace(raidConfig, wait, "    syncTimeout: 60\n"+wait, 1), 9, ""},
		"in vain":     {strings.Replace(raidConfig, wait, "    syncTimeout: 4\n"+wait, 1), 1 << 20, `array "esp" (/dev/md/esp) is not in sync: resync, 1 MiB of 4 MiB after 1h0m0s`},
		"too briefly": {strings.Replace(raidConfig, wait, "    syncTimeout: 4\n"+wait, 1), 7205, `array "root-a" (/dev/md/root-a) is not in sync`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				plan, err := NewPlan(parse(t, c.config), twoDisks(), request(Install))
				if err != nil {
					t.Fatal(err)
				}
				b := newBench(t, twoDisks())
				b.over.syncing = c.syncing
				if name == "too briefly" {
					b.over.quick = "esp"
				}
				err = plan.Apply(t.Context(), b.tools(), nil)
				if c.says == "" && (err != nil || b.over.syncing >= 0) {
					t.Errorf("got %v, and the arrays copy %d times more", err, b.over.syncing)
				}
				if c.says != "" && (errkind.Of(err) != errkind.Timeout || errkind.Variant(err) != "CreateRaid" || !strings.Contains(err.Error(), c.says)) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestAWaitForArraysIsCancelled(t *testing.T) {
	t.Parallel()
	plan, err := NewPlan(parse(t, raidConfig), twoDisks(), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, twoDisks())
	b.over.syncing = 1 << 20
	ctx, cancel := context.WithCancel(t.Context())
	b.over.asked = cancel
	if err := plan.Apply(ctx, b.tools(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLayersThatCannotBeMadeAreNotPlanned(t *testing.T) {
	t.Parallel()
	raided := func(change func(*blockdev.Inventory)) *blockdev.Inventory {
		_, inv := installedRAID(t)
		for i := range inv.Disks {
			for j := range inv.Disks[i].Partitions {
				inv.Disks[i].Partitions[j].Use.Mounts = nil
			}
		}
		o, _ := inv.Other("/dev/md/root-a")
		o.Use.Mounts = nil
		change(inv)
		return inv
	}
	array := func(inv *blockdev.Inventory, path string) *blockdev.Other {
		o, ok := inv.Other(path)
		if !ok {
			t.Fatalf("there is no %s", path)
		}
		return o
	}
	third := usedDisk(t, "sdc", 16*gib, []old{{"x", mib, gib, "linux_raid_member", blockdev.Use{}}})
	for _, c := range []struct {
		name, from, to string
		inv            *blockdev.Inventory
		variant        string
		kind           errkind.Kind
		says           string
	}{
		{"one of two disks is too small", "", "", inventory(emptyDisk("sda", 16*gib), emptyDisk("sdb", 4*gib)), "CreatePartitions", errkind.NoSpace, `disk "two" (/dev/sdb): the disk is too small`},
		{"a name that mdadm refuses", "name: data,", "name: my data,", twoDisks(), "CreateRaid", errkind.Invalid, `storage.raid.software[3]: array "data-raw": mdadm(8) does not accept the name "my data"`},
		{"a name with a dot first", "name: data,", "name: .data,", twoDisks(), "CreateRaid", errkind.Invalid, "does not accept"},
		{"a name that is too long", "name: data,", "name: " + strings.Repeat("d", 28) + ",", twoDisks(), "CreateRaid", errkind.Invalid, "does not accept"},
		{"a name that crypttab cannot have", "deviceName: srv", "deviceName: 's rv'", twoDisks(), "EncryptBlockDevice", errkind.Invalid, `storage.encryption.volumes[0]: encrypted volume "data": crypttab(5) cannot have the name "s rv"`},
		{"a volume without room", "type: swap, size: 512M", "type: swap, size: 16M", twoDisks(), "EncryptBlockDevice", errkind.NoSpace, `encrypted volume "swap" has no room for data: the smallest of its devices has 16 MiB`},
		{"an array that is also elsewhere", "", "", raided(func(inv *blockdev.Inventory) {
			inv.Disks = append(inv.Disks, third)
			array(inv, "/dev/md/root-b").Over = []string{"sda3", "sdb3", "sdc1"}
		}), "CleanupRaid", errkind.Precondition, `storage.disks[0]: disk "one": partition /dev/sda3 "root-b-1" would be deleted, and is in use: held by md125, a RAID array that is also on /dev/sdc1, which stays`},
		{"an array below one that is also elsewhere", "", "", raided(func(inv *blockdev.Inventory) {
			inv.Disks = append(inv.Disks, third)
			array(inv, "/dev/mapper/srv").Over = []string{"md124", "sdc1"}
		}), "CleanupRaid", errkind.Precondition, "held by md124, which is held by dm-0, an encrypted volume that is also on /dev/sdc1, which stays"},
		{"an array of an old format", "", "", raided(func(inv *blockdev.Inventory) { array(inv, "/dev/md/root-b").UUID = "" }), "CleanupRaid", errkind.Precondition, "a RAID array without a UUID that Trident can read"},
		{"an array that is mounted", "", "", raided(func(inv *blockdev.Inventory) { inv.Disks[1].Partitions[2].Use.Mounts = []string{"/srv"} }), "CreatePartitions", errkind.Precondition, "in use: mounted at /srv, held by md125"},
		{"another device of device-mapper", "", "", raided(func(inv *blockdev.Inventory) { array(inv, "/dev/mapper/srv").Is = "an LVM volume" }), "CleanupRaid", errkind.Precondition, "held by md124, which is held by dm-0\n"},
		{"an array elsewhere has the name", "", "", func() *blockdev.Inventory {
			inv := twoDisks()
			inv.Disks, inv.Others = append(inv.Disks, third), []blockdev.Other{{Name: "md9", Path: "/dev/md9", Links: []string{"/dev/md/data"}, Is: blockdev.Array, Over: []string{"sdc1"}}}
			return inv
		}(), "CreateRaid", errkind.Precondition, `array "data-raw": /dev/md/data is a RAID array (md9 over sdc1), which stays`},
		{"a volume elsewhere has the name", "", "", func() *blockdev.Inventory {
			inv := twoDisks()
			inv.Disks, inv.Others = append(inv.Disks, third), []blockdev.Other{{Name: "dm-9", Path: "/dev/dm-9", Links: []string{"/dev/mapper/srv"}, Is: blockdev.Encrypted, Over: []string{"sdc1"}}}
			return inv
		}(), "EncryptBlockDevice", errkind.Precondition, `encrypted volume "data": /dev/mapper/srv is an encrypted volume (dm-9 over sdc1), which stays`},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan, err := NewPlan(parse(t, strings.Replace(raidConfig, c.from, c.to, 1)), c.inv, request(Install))
			if plan != nil || err == nil || errkind.Variant(err) != c.variant || errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v (%s, %s)", err, errkind.Variant(err), errkind.Of(err))
			}
		})
	}
}

func TestAnArrayOfWholeDisksEndsWithThem(t *testing.T) {
	t.Parallel()
	inv := twoDisks()
	inv.Others = []blockdev.Other{{Name: "md9", Path: "/dev/md9", Is: blockdev.Array, Size: gib, Label: "old", UUID: "01020304-0506-0708-090a-0b0c0d0e0f10", Over: []string{"sda", "sdb"}}}
	for i := range inv.Disks {
		inv.Disks[i].Use.Holders = []string{"md9"}
	}
	plan, err := NewPlan(parse(t, raidConfig), inv, request(Install))
	if err != nil || len(plan.releases) != 1 || !strings.Contains(plan.String(), `DESTROYS the running array /dev/md9, 1 GiB, label "old"`) {
		t.Errorf("got %v\n%s", err, plan)
	}
	_, err = NewPlan(parse(t, abConfig), inv, request(Install))
	if err == nil || errkind.Variant(err) != "CleanupRaid" || !strings.Contains(err.Error(), `disk "os" (/dev/sda) is in use as a whole: held by md9, a RAID array that is also on /dev/sdb, which stays`) {
		t.Errorf("got %v", err)
	}
}

func TestAPlanSaysWhichToolsItNeeds(t *testing.T) {
	t.Parallel()
	plan, err := NewPlan(parse(t, raidConfig), twoDisks(), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(plan.Tools(), " "); got != "mkfs.vfat mkfs.ext4 mkswap mdadm cryptsetup" {
		t.Error(got)
	}
	b := newBench(t, twoDisks())
	for variant, spoil := range map[string]func(*Tools){
		"CreateRaid":         func(x *Tools) { x.Arrays = nil },
		"EncryptBlockDevice": func(x *Tools) { x.Key = nil },
	} {
		tools := b.tools()
		spoil(&tools)
		err := plan.Apply(t.Context(), tools, func(string, func() error) error { t.Error("a change was made"); return nil })
		if errkind.Of(err) != errkind.Unsupported || errkind.Variant(err) != variant {
			t.Errorf("%s: %v", variant, err)
		}
	}
}

func TestCapacityOfLayers(t *testing.T) {
	t.Parallel()
	const less = arrayChunk // of a member of a striped level whose size is a multiple of the chunk
	for level, want := range map[string]int64{
		"raid0": 4 * (gib - less), "raid1": gib - arrayReserve, "raid5": 3 * (gib - less), "raid6": 2 * (gib - less), "raid10": 2 * (gib - less),
	} {
		if got := capacity(&Layer{Kind: LayerArray, Level: level}, []int64{gib, gib, gib, gib}); got != want {
			t.Errorf("%s of four times 1 GiB has %d bytes, want %d", level, got, want)
		}
	}
	if got := capacity(&Layer{Kind: LayerArray, Level: "raid1"}, []int64{gib, 2 * gib}); got != gib-arrayReserve {
		t.Errorf("a mirror of 1 GiB and 2 GiB has %d bytes", got)
	}
	if got := capacity(&Layer{Kind: LayerEncrypted}, []int64{gib}); got != gib-16*mib {
		t.Errorf("an encrypted volume of 1 GiB has %d bytes", got)
	}
}

func TestFilesOfTheNewOSNameItsArraysAndVolumes(t *testing.T) {
	t.Parallel()
	spec := parse(t, raidConfig)
	b, inv := installedRAID(t)
	plan, err := NewPlan(spec, twoDisks(), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func() (string, error){
		"raid-fstab":      func() (string, error) { return Fstab(spec, plan.Paths(), slot.B) },
		"raid-crypttab":   func() (string, error) { return Crypttab(spec, plan.Paths(), slot.B) },
		"raid-mdadm.conf": func() (string, error) { return MdadmConf(spec, inv) },
	} {
		text, err := make()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, []byte(text))
	}
	plain := parse(t, abConfig)
	if text, err := Crypttab(plain, nil, slot.A); text != "" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := MdadmConf(plain, inv); text != "" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	b.over.arrays = nil
	if _, err := MdadmConf(spec, b.inventory(twoDisks())); errkind.Variant(err) != "CreateMdadmConf" {
		t.Errorf("got %v", err)
	}
	if _, err := Crypttab(spec, nil, slot.A); errkind.Variant(err) != "CreateCrypttab" {
		t.Errorf("got %v", err)
	}
}
