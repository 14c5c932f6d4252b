package rebuild_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/operation"
)

// A scenario is what has happened to the disks.
type scenario struct {
	name string
	harm func(w *world)
	says string // of the fault, in the log
	// fails: the resync fails once, and a second operation succeeds.
	fails bool
}

var scenarios = []scenario{
	{name: "a replaced disk", harm: replaced, says: `disk "two" (/dev/sdb) was replaced: it gets a new partition table`},
	{name: "a failed member", harm: func(w *world) { w.arrays.Fail("/dev/sdb2") }, says: `array "root": member /dev/sdb2 has failed`},
	{name: "members that were kicked out", harm: lost, says: `array "root": member "root-2" (/dev/sdb2) was kicked out`},
	{name: "a clone of the other disk", harm: cloned, says: `disk "two" (/dev/sdb) is a clone of another disk: it gets a new partition table`},
	{name: "a partition that was wiped", harm: wiped, says: `array "root": member "root-2" (/dev/sdb2) is missing`},
	{name: "a partition that was deleted", harm: func(w *world) { lost(w); w.dropPartition("sdb", "root-2") }, says: `disk "two" (/dev/sdb) has lost partitions: it gets a new partition table`},
	{name: "a replaced disk that fails again", harm: func(w *world) { replaced(w); w.bad = true }, fails: true, says: "was replaced"},
}

// A plan names what the operation then does, and changes nothing.
func TestAPlanSaysWhatIsAddedCopiedAndLost(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*world)
		want []string // of the effects, by kind and object
	}{
		"nothing": {func(*world) {}, nil},
		"a replaced disk": {replaced, []string{
			"partition-disk two", "add-member esp-2", "add-member root-2", "copy-member esp-2", "copy-member root-2", "redirect-boot esp-2", "record-disk two",
		}},
		"a clone": {cloned, []string{
			"destroy-table /dev/sdb", "destroy-partition /dev/sdb1", "destroy-partition /dev/sdb2",
			"partition-disk two", "add-member esp-2", "add-member root-2", "copy-member esp-2", "copy-member root-2", "redirect-boot esp-2", "record-disk two",
		}},
		"a failed member": {func(w *world) { w.arrays.Fail("/dev/sdb2") }, []string{"remove-member /dev/sdb2", "add-member root-2", "copy-member root-2"}},
		"kicked out":      {lost, []string{"add-member esp-2", "add-member root-2", "copy-member esp-2", "copy-member root-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, mirrors)
				defer func() { w.stop() }()
				c.harm(w)
				before := map[string]string{}
				for disk, m := range w.disks {
					before[disk] = hashOf(t, m)
				}
				st, err := w.daemon.host.State(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				plan, err := w.daemon.service.Plan(t.Context(), st)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, e := range plan.Effects() {
					got = append(got, e.Kind+" "+e.Object)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("the plan (-want +got):\n%s\n%s", diff, plan)
				}
				for disk, m := range w.disks {
					if hashOf(t, m) != before[disk] {
						t.Errorf("the plan has changed %s", disk)
					}
				}
				if list, err := w.daemon.runner.List(t.Context(), 10, false); err != nil || len(list) > 0 {
					t.Errorf("the plan began %v: %v", list, err)
				}
			})
		})
	}
}

func hashOf(t *testing.T, m *blockdevtest.Memory) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(m, 0, m.Size())); err != nil {
		t.Fatal(err)
	}
	return string(h.Sum(nil))
}

// lost has the arrays start without the members on /dev/sdb.
func lost(w *world) {
	w.arrays.Lose("/dev/sdb1")
	w.arrays.Lose("/dev/sdb2")
}

func replaced(w *world) {
	lost(w)
	w.disks["sdb"] = blockdevtest.New(diskSize, 512)
}

func cloned(w *world) {
	replaced(w)
	w.copyDisk("sda", "sdb")
}

func wiped(w *world) {
	lost(w)
	for _, p := range w.inventory().Disks[1].Partitions {
		if err := w.write(p.Path, make([]byte, p.Size), 0); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) write(device string, data []byte, at int64) error {
	dev, err := w.open(device, false)
	if err != nil {
		return err
	}
	if _, err := dev.WriteAt(data, at); err != nil {
		return err
	}
	return dev.Sync()
}

func (w *world) copyDisk(from, to string) {
	w.t.Helper()
	data, err := io.ReadAll(io.NewSectionReader(w.disks[from], 0, diskSize))
	if err == nil {
		_, err = w.disks[to].WriteAt(data, 0)
	}
	if err == nil {
		err = w.disks[to].Sync()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// Whatever has happened to a member and wherever the power is cut, forwards or while the
// operation is undone, the arrays become whole, and the status has the new disk only then.
func TestARebuildSurvivesPowerCuts(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			touches := 0
			var rests map[int]bool
			synctest.Test(t, func(t *testing.T) {
				w := sc.play(t, 0, false)
				touches, rests = w.Touches, w.Rests()
				t.Logf("touches: %s", strings.Join(w.Trace, ", "))
			})
			cases := 0
			for cut := 1; cut <= touches && !t.Failed(); cut++ {
				for _, after := range []bool{false, true} {
					if !after && rests[cut] {
						continue // the same as after the change before
					}
					cases++
					if !hosttest.InTurn(cases) {
						continue
					}
					t.Run(fmt.Sprintf("cut at %d, after=%v", cut, after), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { sc.play(t, cut, after) })
					})
				}
			}
			t.Logf("%d cases", cases)
		})
	}
}

func (sc scenario) play(t *testing.T, cut int, after bool) *world {
	w := newWorld(t, mirrors)
	defer func() { w.stop() }()
	sc.harm(w)
	was := w.status()
	w.Prepare(cut, after)
	op := w.rebuild()
	if sc.fails {
		if op.Phase != operation.Undone || op.Failure.Name != errkind.NameRebuildRaid || op.Failure.Kind != errkind.Unhealthy {
			t.Errorf("%s: %+v\ntouches: %v", op.Phase, op.Failure, w.Trace)
		}
		st := w.status()
		if !maps.Equal(st.DiskUUIDs, was.DiskUUIDs) || !maps.Equal(st.PartitionPaths, was.PartitionPaths) || st.LastError == nil {
			t.Errorf("after a failure the status is %+v\ntouches: %v", st, w.Trace)
		}
		op = w.rebuild()
	}
	w.checkWhole(op)
	if !sc.fails && cut == 0 && !strings.Contains(w.logs(op.ID), sc.says) {
		t.Errorf("it does not say %q:\n%s", sc.says, w.logs(op.ID))
	}
	if again := w.rebuild(); again.Phase != operation.Done {
		t.Errorf("with nothing to do: %+v", again.Failure)
	}
	return w
}

func (w *world) checkWhole(op operation.Operation) {
	t := w.t
	t.Helper()
	if op.Phase != operation.Done {
		t.Fatalf("%s: %+v\ntouches: %v", op.Phase, op.Failure, w.Trace)
	}
	list, err := w.arrays.Arrays(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]bool{}
	for _, a := range list {
		for _, m := range a.Members {
			members[m.Device] = true
		}
		if a.Missing != 0 || len(a.Members) != 2 {
			t.Errorf("array %+v\ntouches: %v", a, w.Trace)
		}
	}
	st := w.status()
	for _, id := range []string{"esp-1", "esp-2", "root-1", "root-2"} {
		if device := w.device(st.PartitionPaths[id]); !members[device] {
			t.Errorf("%s is %s, which is not a member\ntouches: %v", id, device, w.Trace)
		}
	}
	inv := w.inventory()
	want := map[string]string{"one": inv.Disks[0].TableID, "two": inv.Disks[1].TableID}
	if diff := cmp.Diff(want, st.DiskUUIDs); diff != "" || want["one"] == want["two"] {
		t.Errorf("the recorded disks: %s\ntouches: %v", diff, w.Trace)
	}
	if st.LastError != nil || st.Phase != (hoststate.Settled{}) {
		t.Errorf("the status is %+v", st)
	}
	w.checkEntries(st)
}

// checkEntries checks that the entries of the firmware are the members of the ESP.
func (w *world) checkEntries(st hoststate.Status) {
	t := w.t
	t.Helper()
	entries, err := efivar.Entries(w.vars)
	if err != nil {
		t.Fatal(err)
	}
	order, err := efivar.BootOrder(w.vars)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for i, e := range entries {
		disk, _, _ := e.Location()
		got = append(got, disk.Partition.String())
		if i >= len(order) || order[i] != e.Number {
			t.Errorf("the order is %v", order)
		}
	}
	for _, id := range []string{"esp-1", "esp-2"} {
		want = append(want, w.guid(st.PartitionPaths[id]).String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("boot entries: %s\ntouches: %v", diff, w.Trace)
	}
}

func TestAResyncIsReportedAndContinuesOverAReboot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, mirrors)
		defer func() { w.stop() }()
		replaced(w)
		if err := w.begin(); err != nil {
			t.Fatal(err)
		}
		for step := ""; step != "sync"; {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			ops, err := w.daemon.runner.List(context.Background(), 1, false)
			if err != nil || ops[0].Phase != operation.Doing {
				t.Fatalf("it ended before the resync: %+v, %v", ops, err)
			}
			step = ops[0].Step
		}
		w.stop()
		w.arrays.Lose("/dev/sdb2") // the boot starts the array without it
		w.powerOn()
		op := w.settled()
		w.checkWhole(*op)
		events, err := w.daemon.store.Events(context.Background(), op.ID, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		last, reports := int64(0), 0
		for _, e := range events {
			if e.Type == operation.Progress && e.Step == "sync" {
				if e.Done > e.Total || e.Total != 24<<20 {
					t.Errorf("progress: %d of %d bytes", e.Done, e.Total)
				}
				last = max(last, e.Done)
				reports++
			}
		}
		if reports < 2 || last == 0 {
			t.Errorf("%d reports, the last of %d bytes", reports, last)
		}
	})
}

// What cannot be rebuilt is refused before the first write, and named.
func TestARebuildIsRefusedBeforeTheFirstWrite(t *testing.T) {
	t.Parallel()
	ext := func(w *world, device string) {
		if err := w.write(device, []byte{0x53, 0xef}, 1024+56); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		text string
		harm func(w *world)
		want string
	}{
		{"missing", mirrors, func(w *world) { lost(w); delete(w.disks, "sdb") }, `disk "two" (/dev/sdb): it is missing: the host has no such disk`},
		{"too small", mirrors, func(w *world) { lost(w); w.disks["sdb"] = blockdevtest.New(16<<20, 512) }, "the disk is too small"},
		{"in use", mirrors, func(w *world) { cloned(w); w.holders["/dev/sdb1"] = "dm-0" }, "/dev/sdb1"},
		{"data on the disk", mirrors, func(w *world) { replaced(w); ext(w, "/dev/sdb") }, "/dev/sdb would lose disk /dev/sdb"},
		{"data on a partition", mirrors, func(w *world) { cloned(w); ext(w, "/dev/sdb1"); w.forget("/dev/sdb1") }, "/dev/sdb would lose partition /dev/sdb1"},
		{"data on a member", mirrors, func(w *world) { wiped(w); ext(w, "/dev/sdb2") }, "/dev/sdb2 cannot become a member: it has the content ext2"},
		{"a clone elsewhere", mirrors, func(w *world) { w.disks["sdc"] = blockdevtest.New(diskSize, 512); w.copyDisk("sdb", "sdc") }, "/dev/sdc is a clone of it (/dev/sdb)"},
		{"in use after a wipe", mirrors, func(w *world) { wiped(w); w.holders["/dev/sdb2"] = "dm-0" }, "/dev/sdb2 cannot become a member: held by dm-0"},
		{"partly elsewhere", mirrors, func(w *world) {
			lost(w)
			w.dropPartition("sdb", "root-2")
			w.disks["sdb"], w.disks["sdc"] = blockdevtest.New(diskSize, 512), w.disks["sdb"]
		}, "some of its partitions are on /dev/sdc and others are gone"},
		{"another disk's name", mirrors, func(w *world) { lost(w); w.disks["sdb"] = w.disks["sda"]; delete(w.disks, "sda") }, `it is missing: /dev/sdb is disk "one"`},
		{"adopted partitions", mirrors, func(w *world) {
			replaced(w)
			w.setSpec("    - {id: spare, type: linux-generic, size: grow}\n", "    adoptedPartitions: [{id: spare, matchLabel: spare}]\n")
		}, "it had adopted partitions, which Trident cannot make"},
		{"swap without a mirror", mirrors, func(w *world) {
			replaced(w)
			w.setSpec("  filesystems:", "  swap: [{deviceId: spare}]\n  filesystems:")
		}, `its partition "spare" was in no array`},
		{"a volume without a mirror", mirrors, func(w *world) {
			replaced(w)
			w.setSpec("  filesystems:", "  abUpdate: {volumePairs: [{id: pair, volumeAId: other, volumeBId: spare}]}\n  filesystems:")
		}, `its partition "spare" was in no array`},
		{"a hash tree without a mirror", mirrors, func(w *world) {
			replaced(w)
			w.setSpec("  filesystems:", "  verity: [{id: v, name: v, dataDeviceId: root, hashDeviceId: spare}]\n  filesystems:")
		}, `its partition "spare" was in no array`},
		{"an encrypted volume without a mirror", mirrors, func(w *world) {
			replaced(w)
			w.setSpec("  filesystems:", "  encryption: {volumes: [{id: e, deviceName: e, deviceId: spare}]}\n  filesystems:")
		}, `its partition "spare" was in no array`},
		{"an array without a superblock that can be read", mirrors, func(w *world) { w.change(func(st *md.State) { st.UUID = md.UUID{} }) }, "has a superblock of version 1 that can be read"},
		{"two arrays with the members of one", mirrors, func(w *world) {
			w.look = func() ([]md.State, error) {
				list, err := w.arrays.Arrays(context.Background())
				list[0].Members, list[1].Members = list[0].Members[:1], []md.Member{list[0].Members[1]}
				return list, err
			}
		}, `the members of array "esp" are in two arrays, md127 and md126`},
		{"too few members for RAID 5", mirrors, func(w *world) { w.change(func(st *md.State) { st.Level, st.Slots, st.Missing = md.RAID5, 4, 2 }) },
			"2 of its 4 members are in sync, and raid5 needs at least 3"},
		{"too few members for RAID 4", mirrors, func(w *world) { w.change(func(st *md.State) { st.Level, st.Slots, st.Missing = md.RAID4, 4, 2 }) },
			"2 of its 4 members are in sync, and raid4 needs at least 3"},
		{"too few members for RAID 6", mirrors, func(w *world) { w.change(func(st *md.State) { st.Level, st.Slots, st.Missing = md.RAID6, 5, 3 }) },
			"2 of its 5 members are in sync, and raid6 needs at least 3"},
		{"too few members for RAID 10", mirrors, func(w *world) { w.change(func(st *md.State) { st.Level, st.Slots, st.Missing = md.RAID10, 5, 3 }) },
			"2 of its 5 members are in sync, and raid10 needs at least 3"},
		{"too few members for RAID 0", mirrors, func(w *world) { w.change(func(st *md.State) { st.Level, st.Slots, st.Missing = md.RAID0, 3, 1 }) },
			"2 of its 3 members are in sync, and raid0 needs at least 3"},
		{"no survivor", mirrors, func(w *world) {
			replaced(w)
			w.arrays.Fail("/dev/sda2")
		}, `array "root" (/dev/md/root): no member survives`},
		{"no redundancy", strings.ReplaceAll(mirrors, "name: root, level: raid1", "name: root, level: raid0"), replaced, `its partition "root-2" was in array "root", of raid0`},
		{"a partition without a mirror", mirrors + "  - {deviceId: spare, source: new, mountPoint: /srv}\n", replaced, `its partition "spare" was in no array`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.text)
				defer func() { w.stop() }()
				c.harm(w)
				before := w.content()
				op := w.rebuild()
				if op.Phase != operation.Undone || op.Reached != "check" || op.Failure.Name != errkind.NameValidateRebuildRaid || !strings.Contains(op.Failure.Message, c.want) {
					t.Errorf("%s at %s: %+v", op.Phase, op.Reached, op.Failure)
				}
				if diff := cmp.Diff(before, w.content()); diff != "" {
					t.Errorf("it has changed something: %s", diff)
				}
				if st := w.status(); st.LastError == nil {
					t.Error("the status has no error")
				}
			})
		})
	}
}

// change has the kernel report the array "root" with other values.
func (w *world) change(values func(*md.State)) {
	w.look = func() ([]md.State, error) {
		list, err := w.arrays.Arrays(context.Background())
		for i := range list {
			if list[i].Name == "root" {
				values(&list[i])
			}
		}
		return list, err
	}
}

// forget overwrites the superblock of a partition.
func (w *world) forget(device string) {
	p, _ := w.inventory().Partition(device)
	if err := w.write(device, make([]byte, 64<<10), p.Size-64<<10); err != nil {
		w.t.Fatal(err)
	}
}

// content is what a rebuild may change: the arrays, and how often a disk was written to.
func (w *world) content() string {
	list, err := w.arrays.Arrays(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	out := fmt.Sprintf("%+v", list)
	for _, d := range []string{"sda", "sdb", "sdc"} {
		if w.disks[d] != nil {
			out += fmt.Sprintf(" %s: %d", d, w.disks[d].Writes())
		}
	}
	return out
}

func TestMembersOfTheESPThatDifferAreReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, mirrors)
		defer func() { w.stop() }()
		w.arrays.Differ = 4096
		op := w.rebuild()
		const want = "the members of the EFI system partition /dev/md/esp differ in 4096 bytes"
		if op.Phase != operation.Done || !strings.Contains(w.logs(op.ID), want) {
			t.Errorf("%s, %+v, and the log:\n%s", op.Phase, op.Failure, w.logs(op.ID))
		}
	})
}

func TestAHostWithoutArraysHasNothingToRebuild(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, mirrors)
		defer func() { w.stop() }()
		st := w.status()
		st.Spec = "os: {}\n"
		if err := w.daemon.store.Record(t.Context(), st); err != nil {
			t.Fatal(err)
		}
		if err := w.begin(); errkind.Of(err) != errkind.Precondition || errkind.Variant(err) != errkind.NameValidateRebuildRaid {
			t.Errorf("without arrays: %v", err)
		}
		if err := w.daemon.store.Record(t.Context(), hoststate.Status{Phase: hoststate.Fresh{}}); err != nil {
			t.Fatal(err)
		}
		if err := w.begin(); errkind.Variant(err) != errkind.NameHostNotProvisioned {
			t.Errorf("never provisioned: %v", err)
		}
	})
}

var _ md.Manager = kernel{}
