package md_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/linux/md/mdtest"
	"github.com/trident-project/trident/internal/linux/run"
)

const size = 64 << 20

func sample() md.Superblock {
	return md.Superblock{
		Array: md.UUID{0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, Device: md.UUID{7},
		Name: "root", Level: md.RAID1, Slots: 2, Role: 1, Events: 42,
	}
}

func TestArraysInMemory(t *testing.T) {
	t.Parallel()
	mdtest.Suite(t, func(*testing.T) *mdtest.Bench {
		m := memory()
		return &mdtest.Bench{Manager: m, Checker: m, Devices: []string{"/dev/a", "/dev/b", "/dev/c", "/dev/d"}, Fail: m.Fail, Settle: m.Sync}
	})
}

func memory() *mdtest.Memory {
	devices := map[string]blockdev.Device{}
	return &mdtest.Memory{Open: func(name string) (blockdev.Device, error) {
		if devices[name] == nil {
			devices[name] = blockdevtest.New(size, 512)
		}
		return devices[name], nil
	}}
}

func TestAHalfMadeArrayIsMadeAgain(t *testing.T) {
	t.Parallel()
	m := memory()
	m.HalfMade = 1
	a := md.Array{Name: "esp", Level: md.RAID1, UUID: md.UUID{1}, Members: []string{"/dev/a", "/dev/b"}}
	if err := m.Create(t.Context(), a); err == nil {
		t.Fatal("the power did not fail")
	}
	first, _ := m.Open("/dev/a")
	if s, err := md.Examine(first, size); err != nil || s.Array != a.UUID {
		t.Errorf("the first member has %+v, %v", s, err)
	}
	second, _ := m.Open("/dev/b")
	if _, err := md.Examine(second, size); errkind.Of(err) != errkind.NotFound {
		t.Errorf("the second member: %v", err)
	}
	if err := m.Create(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if list, err := m.Arrays(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("the arrays are %+v, %v", list, err)
	}
}

func TestASuperblockIsRead(t *testing.T) {
	t.Parallel()
	dev := blockdevtest.New(size, 512)
	if _, err := dev.WriteAt(mdtest.Encode(sample(), size, 1, []int{0, 1}), mdtest.Place(size)); err != nil {
		t.Fatal(err)
	}
	got, err := md.Examine(dev, size)
	if diff := cmp.Diff(sample(), got); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
}

// A member may have been one of another array, with its superblock in another place.
func TestProbeAndExamineMeanTheSameArray(t *testing.T) {
	t.Parallel()
	dev := blockdevtest.New(size, 512)
	former := sample()
	former.Array = md.UUID{9}
	for at, s := range map[int64]md.Superblock{mdtest.Place(size): sample(), 4096: former} {
		if _, err := dev.WriteAt(mdtest.Encode(s, size, 1, []int{0, 1}), at); err != nil {
			t.Fatal(err)
		}
	}
	got, err := md.Examine(dev, size)
	if err != nil || got.Array != sample().Array {
		t.Errorf("%+v, %v", got, err)
	}
	if c := blockdev.Probe(dev, size); strings.ReplaceAll(c.UUID, "-", "") != strings.ReplaceAll(got.Array.String(), ":", "") {
		t.Errorf("Probe finds the array %s, Examine %s", c.UUID, got.Array)
	}
}

// mdadm agrees with the fixtures, so the reader agrees with mdadm.
func TestMdadmReadsTheSameSuperblock(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mdadm"); err != nil {
		t.Skip("mdadm is not installed")
	}
	name := filepath.Join(t.TempDir(), "member")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(mdtest.Encode(sample(), size, 1, []int{0, 1}), mdtest.Place(size)); err != nil {
		t.Fatal(err)
	}
	out, err := run.Host{}.Run(t.Context(), "mdadm", "--examine", name)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(out)), " ")
	for _, want := range []string{
		"Version : 1.0", "Array UUID : deadbeef:01020304:05060708:090a0b0c", "Name : any:root", "Raid Level : raid1", "Raid Devices : 2",
		"Device UUID : 07000000:00000000:00000000:00000000", "- correct", "Events : 42", "Device Role : Active device 1", "Array State : AA",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("mdadm does not print %q:\n%s", want, out)
		}
	}
	if got, err := md.Examine(f, size); err != nil || got.Array.String() != "deadbeef:01020304:05060708:090a0b0c" {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestADamagedSuperblockIsNotBelieved(t *testing.T) {
	t.Parallel()
	whole := mdtest.Encode(sample(), size, 1, []int{0, 1})
	for _, c := range []struct {
		name string
		harm func([]byte)
		kind errkind.Kind
	}{
		{"none", func(b []byte) { b[0] = 0 }, errkind.NotFound},
		{"a flipped bit", func(b []byte) { b[40] ^= 1 }, errkind.Corrupt},
		{"a flipped bit in the roles", func(b []byte) { b[256+10] ^= 1 }, errkind.Corrupt},
		{"version 2", func(b []byte) { b[4] = 2 }, errkind.Corrupt},
		{"another place", func(b []byte) { b[144]++ }, errkind.Corrupt},
		{"too many roles", func(b []byte) { b[222] = 1 }, errkind.Corrupt},
	} {
		dev := blockdevtest.New(size, 512)
		b := bytes.Clone(whole)
		c.harm(b)
		if _, err := dev.WriteAt(b, mdtest.Place(size)); err != nil {
			t.Fatal(err)
		}
		if s, err := md.Examine(dev, size); errkind.Of(err) != c.kind {
			t.Errorf("%s: %+v, %v", c.name, s, err)
		}
	}
	for _, size := range []int64{0, 512, 4096, 8192, 12288} {
		if _, err := md.Examine(bytes.NewReader(make([]byte, size)), size); errkind.Of(err) != errkind.NotFound {
			t.Errorf("a device of %d bytes: %v", size, err)
		}
	}
}

func FuzzExamine(f *testing.F) {
	const size = 16 << 10
	block := mdtest.Encode(sample(), size, 1, []int{0, 1})
	device := make([]byte, size)
	copy(device[mdtest.Place(size):], block)
	f.Add(device)
	f.Add(block)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := md.Examine(bytes.NewReader(data), int64(len(data)))
		if err == nil && (s.Slots < 0 || s.Slots > 1920 || s.Role < md.RoleJournal || s.Role >= 1920 || len(s.Name) > 32) {
			t.Errorf("accepted %+v", s)
		}
	})
}

// host is a made-up host, with the arrays of the kernel's attributes below sys.
func host(t *testing.T, attributes map[string]string) (*md.Host, func(string) string, *[]string) {
	t.Helper()
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range attributes {
		put("sys/block/"+name, text+"\n")
	}
	for i, name := range []string{"sda1", "sdb1"} {
		s := sample()
		member := make([]byte, size/64)
		copy(member[mdtest.Place(int64(len(member))):], mdtest.Encode(s, int64(len(member)), i, []int{0, 1}))
		put("dev/"+name, string(member))
	}
	var calls []string
	h := &md.Host{Root: root, Tools: run.Func(func(_ context.Context, name string, args ...string) ([]byte, error) {
		calls = append(calls, name+" "+strings.Join(args, " "))
		return nil, nil
	}), Await: func(context.Context, ...string) error { return nil }}
	return h, func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, "sys/block", name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}, &calls
}

func degraded() map[string]string {
	return map[string]string{
		"md127/md/array_state": "clean", "md127/md/level": "raid1", "md127/md/raid_disks": "2",
		"md127/md/sync_action": "recover", "md127/md/sync_completed": "1024 / 4096",
		"md127/md/dev-sda1/state": "in_sync", "md127/md/dev-sda1/slot": "0",
		"md127/md/dev-sdb1/state": "faulty,blocked", "md127/md/dev-sdb1/slot": "none",
		"md127/md/dev-cciss!c0d0p1/state": "spare", "md127/md/dev-cciss!c0d0p1/slot": "1",
		"md126/md/array_state": "clear", "sda/size": "1",
	}
}

func TestTheStateOfAnArrayIsReadFromTheKernel(t *testing.T) {
	t.Parallel()
	h, _, _ := host(t, degraded())
	got, err := h.Arrays(t.Context())
	want := []md.State{{
		Kernel: "md127", UUID: sample().Array, Name: "root", Level: md.RAID1, Slots: 2, Missing: 1, Action: "recover", Done: 512 << 10, Total: 2 << 20,
		Members: []md.Member{{Device: "/dev/cciss/c0d0p1", Slot: 1}, {Device: "/dev/sda1", InSync: true}, {Device: "/dev/sdb1", Slot: -1, Faulty: true}},
	}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
}

func TestAMemberIsAddedAndRemoved(t *testing.T) {
	t.Parallel()
	h, text, calls := host(t, degraded())
	id := sample().Array
	if err := h.Remove(t.Context(), id, "/dev/sda1"); errkind.Of(err) != errkind.Precondition {
		t.Errorf("a member in sync is removed: %v", err)
	}
	if err := h.Remove(t.Context(), id, "/dev/sdb1"); err != nil || text("md127/md/dev-sdb1/state") != "remove" {
		t.Errorf("remove: %v, %s", err, text("md127/md/dev-sdb1/state"))
	}
	if err := os.RemoveAll(filepath.Join(h.Root, "sys/block/md127/md/dev-sdb1")); err != nil {
		t.Fatal(err)
	}
	if err := h.Add(t.Context(), id, "/dev/sdb1"); err != nil {
		t.Fatal(err)
	}
	member, err := blockdev.Open(filepath.Join(h.Root, "dev/sdb1"), false)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := md.Examine(member, member.Size()); errkind.Of(err) != errkind.NotFound {
		t.Errorf("mdadm gets a device with the superblock %+v, %v", s, err)
	}
	if diff := cmp.Diff([]string{"mdadm /dev/md127 --add /dev/sdb1"}, *calls); diff != "" {
		t.Error(diff)
	}
}

func TestMembersAreCompared(t *testing.T) {
	t.Parallel()
	sys := degraded()
	sys["md127/md/mismatch_cnt"] = "16"
	h, text, _ := host(t, sys)
	if _, err := h.Check(t.Context(), sample().Array); errkind.Of(err) != errkind.Busy {
		t.Errorf("during a recovery: %v", err)
	}
	action := filepath.Join(h.Root, "sys/block/md127/md/sync_action")
	if err := os.WriteFile(action, []byte("idle"), 0o644); err != nil {
		t.Fatal(err)
	}
	idle := make(chan error, 1)
	go func() { // the kernel
		for text("md127/md/sync_action") != "check" {
			runtime.Gosched()
		}
		idle <- os.WriteFile(action, []byte("idle"), 0o644)
	}()
	if differ, err := h.Check(t.Context(), sample().Array); err != nil || differ != 8<<10 {
		t.Errorf("%d bytes differ, %v", differ, err)
	}
	if err := <-idle; err != nil {
		t.Error(err)
	}
}

func TestAnArrayIsCreatedWithoutAQuestion(t *testing.T) {
	t.Parallel()
	h, text, calls := host(t, degraded())
	a := md.Array{Name: "root", Level: md.RAID1, UUID: sample().Array, Members: []string{"/dev/sda1", "/dev/sdb1"}}
	if err := h.Create(t.Context(), a); errkind.Of(err) != errkind.Corrupt { // this mdadm makes nothing
		t.Errorf("an array that nobody made: %v", err)
	}
	if got := text("md127/md/array_state"); got != "clear" {
		t.Errorf("the previous array is %s", got)
	}
	want := "mdadm --create /dev/md/root --run --level=raid1 --raid-devices=2 --metadata=1.0 --bitmap=internal --homehost=any --name=root " +
		"--uuid=deadbeef:01020304:05060708:090a0b0c /dev/sda1 /dev/sdb1"
	if diff := cmp.Diff([]string{want}, *calls); diff != "" {
		t.Error(diff)
	}
	for level, more := range map[md.Level]string{md.RAID0: " --chunk=512K", md.RAID4: " --chunk=512K", md.RAID5: " --chunk=512K", md.RAID6: " --chunk=512K", md.RAID10: " --chunk=512K --layout=n2"} {
		a.Level, a.Members, *calls = level, []string{"/dev/sda1", "/dev/sdb1", "/dev/sdc1", "/dev/sdd1"}, nil
		for _, m := range a.Members[2:] {
			if err := os.WriteFile(filepath.Join(h.Root, m), make([]byte, size/64), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		bitmap := "internal"
		if level == md.RAID0 {
			bitmap = "none"
		}
		_ = h.Create(t.Context(), a) // this mdadm makes nothing
		want := "mdadm --create /dev/md/root --run --level=" + string(level) + " --raid-devices=4 --metadata=1.0 --bitmap=" + bitmap + " --homehost=any --name=root " +
			"--uuid=deadbeef:01020304:05060708:090a0b0c" + more + " /dev/sda1 /dev/sdb1 /dev/sdc1 /dev/sdd1"
		if diff := cmp.Diff([]string{want}, *calls); diff != "" {
			t.Errorf("%s: %s", level, diff)
		}
	}
	a.Level = md.RAID6
	if a.Members = a.Members[:3]; errkind.Of(h.Create(t.Context(), a)) != errkind.Invalid {
		t.Error("RAID 6 of three members was made")
	}
	a.Level, a.Members = md.RAID1, a.Members[:2]
	for _, bad := range []string{"", ".x", "-x", "a b", "ä", strings.Repeat("x", 28), strings.Repeat("x", 29), "a:b"} {
		a.Name = bad
		if err := h.Create(t.Context(), a); errkind.Of(err) != errkind.Invalid {
			t.Errorf("the name %q: %v", bad, err)
		}
	}
}

// With fewer members in sync an array has lost data, and is not rebuilt.
func TestTheLeastMembersOfALevel(t *testing.T) {
	t.Parallel()
	for level, want := range map[md.Level]int{md.RAID0: 4, md.RAID1: 1, md.RAID4: 3, md.RAID5: 3, md.RAID6: 2, md.RAID10: 2, "linear": 4} {
		if got := (md.State{Level: level, Slots: 4}).Least(); got != want {
			t.Errorf("%s of 4 members needs %d, want %d", level, got, want)
		}
	}
	if got := (md.State{Level: md.RAID10, Slots: 5}).Least(); got != 3 {
		t.Errorf("RAID 10 of 5 members needs %d, want 3", got)
	}
}
