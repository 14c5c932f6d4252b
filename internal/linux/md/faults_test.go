package md_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/linux/md/mdtest"
	"github.com/trident-project/trident/internal/linux/run"
)

// each calls all methods of a Manager and a Checker for the array of sample.
func each(t *testing.T, h *md.Host) map[string]error {
	id := sample().Array
	_, arrays := h.Arrays(t.Context())
	_, check := h.Check(t.Context(), id)
	return map[string]error{
		"arrays": arrays, "check": check, "stop": h.Stop(t.Context(), id), "add": h.Add(t.Context(), id, "/dev/sdb1"), "remove": h.Remove(t.Context(), id, "/dev/sdb1"),
		"create": h.Create(t.Context(), md.Array{Name: "root", Level: md.RAID1, UUID: id, Members: []string{"/dev/sda1", "/dev/sdb1"}}),
	}
}

// An array whose state cannot be read, or makes no sense, ends each call before anything is
// written: it may be any array.
func TestAnArrayWhoseStateCannotBeReadEndsEachCall(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(dir string) error{
		"a state that cannot be read":      func(dir string) error { return replace(filepath.Join(dir, "array_state")) },
		"members that cannot be read":      func(dir string) error { return replace(filepath.Join(dir, "dev-sda1/state")) },
		"slots that cannot be read":        func(dir string) error { return replace(filepath.Join(dir, "dev-sda1/slot")) },
		"a number of members that is none": func(dir string) error { return os.WriteFile(filepath.Join(dir, "raid_disks"), []byte("two"), 0o644) },
	} {
		h, _, calls := host(t, degraded())
		if err := harm(filepath.Join(h.Root, "sys/block/md127/md")); err != nil {
			t.Fatal(err)
		}
		for method, err := range each(t, h) {
			if err == nil || !strings.Contains(err.Error(), "read the state of array md127: ") {
				t.Errorf("%s, %s: %v", name, method, err)
			}
		}
		if len(*calls) > 0 {
			t.Errorf("%s: it runs %q", name, *calls)
		}
	}
}

// replace replaces a file by a folder, which cannot be read as a file.
func replace(name string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o755)) }

func TestAnArrayThatDoesNotRun(t *testing.T) {
	t.Parallel()
	h, _, calls := host(t, nil)
	got := each(t, h)
	delete(got, "create")
	for method, want := range map[string]errkind.Kind{"arrays": "", "stop": "", "remove": "", "check": errkind.NotFound, "add": errkind.NotFound} {
		if err := got[method]; (err == nil) != (want == "") || err != nil && errkind.Of(err) != want {
			t.Errorf("%s: %v", method, err)
		}
	}
	if want := 1; len(*calls) != want { // of create
		t.Errorf("it runs %q", *calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h, _, _ = host(t, degraded())
	if _, err := h.Arrays(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has gone: %v", err)
	}
}

// What mdadm would refuse, or ask a person about, fails before a superblock is overwritten.
func TestAnArrayThatCannotBeMadeIsRefused(t *testing.T) {
	t.Parallel()
	failing := errors.New("mdadm: failed")
	two := []string{"/dev/sda1", "/dev/sdb1"}
	for name, c := range map[string]struct {
		change func(h *md.Host, a *md.Array)
		kind   errkind.Kind
		says   string
		keeps  bool // the members have their superblocks
	}{
		"no UUID":             {func(_ *md.Host, a *md.Array) { a.UUID = md.UUID{} }, errkind.Internal, "it has no UUID", true},
		"too few members":     {func(_ *md.Host, a *md.Array) { a.Level = md.RAID6; a.Members = append(two, "/dev/sdc1") }, errkind.Invalid, "raid6 needs at least 4 members, and it has 3", true},
		"one member":          {func(_ *md.Host, a *md.Array) { a.Members = two[:1] }, errkind.Invalid, "raid1 needs at least 2 members, and it has 1", true},
		"a member is missing": {func(_ *md.Host, a *md.Array) { a.Members = []string{"/dev/sdx1", "/dev/sda1"} }, errkind.NotFound, "/dev/sdx1", true},
		"a tiny member": {func(h *md.Host, _ *md.Array) {
			if err := os.Truncate(filepath.Join(h.Root, "dev/sda1"), 4096); err != nil {
				t.Fatal(err)
			}
		}, errkind.NoSpace, "/dev/sda1 has only 4096 bytes", false},
		"mdadm fails": {func(h *md.Host, _ *md.Array) {
			h.Tools = run.Func(func(context.Context, string, ...string) ([]byte, error) { return nil, failing })
		}, "", "mdadm: failed", false},
		"udev makes no link": {func(h *md.Host, _ *md.Array) {
			h.Await = func(context.Context, ...string) error {
				return errkind.Errorf(errkind.Timeout, "/dev/md/root has not appeared")
			}
		}, errkind.Timeout, "has not appeared", false},
	} {
		h, _, _ := host(t, nil)
		a := md.Array{Name: "root", Level: md.RAID1, UUID: sample().Array, Members: two}
		c.change(h, &a)
		err := h.Create(t.Context(), a)
		if err == nil || c.kind != "" && c.kind != errkind.NotFound && errkind.Of(err) != c.kind || !strings.Contains(err.Error(), `create array "root": `) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%s)", name, err, errkind.Of(err))
		}
		f, err := os.Open(filepath.Join(h.Root, "dev/sda1"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := md.Examine(f, size/64); c.keeps && err != nil {
			t.Errorf("%s: the member has lost its superblock: %v", name, err)
		}
	}
}

// A striped array has no bitmap: there is nothing to resync.
func TestAStripedArrayHasNoBitmap(t *testing.T) {
	t.Parallel()
	h, _, calls := host(t, nil)
	_ = h.Create(t.Context(), md.Array{Name: "swap", Level: md.RAID0, UUID: md.UUID{1}, Members: []string{"/dev/sda1", "/dev/sdb1"}}) // this mdadm makes nothing
	if len(*calls) != 1 || !strings.Contains((*calls)[0], " --level=raid0 ") || !strings.Contains((*calls)[0], " --bitmap=none ") {
		t.Errorf("it runs %q", *calls)
	}
}

func TestMembersAreAddedOnceAndRemovedInAnyState(t *testing.T) {
	t.Parallel()
	h, text, calls := host(t, degraded())
	id := sample().Array
	if err := errors.Join(h.Add(t.Context(), id, "/dev/sda1"), h.Remove(t.Context(), id, "/dev/sdx1")); err != nil || len(*calls) != 0 {
		t.Errorf("a member that is there, and one that is not: %v, %q", err, *calls)
	}
	if err := h.Remove(t.Context(), id, "/dev/cciss/c0d0p1"); err != nil || text("md127/md/dev-cciss!c0d0p1/state") != "remove" {
		t.Errorf("a spare: %v, %q", err, text("md127/md/dev-cciss!c0d0p1/state"))
	}
	failing := errors.New("mdadm: failed")
	h.Tools = run.Func(func(context.Context, string, ...string) ([]byte, error) { return nil, failing })
	if err := os.RemoveAll(filepath.Join(h.Root, "sys/block/md127/md/dev-sdb1")); err != nil {
		t.Fatal(err)
	}
	if err := h.Add(t.Context(), id, "/dev/sdb1"); !errors.Is(err, failing) || !strings.HasPrefix(err.Error(), `add /dev/sdb1 to array "root": `) {
		t.Errorf("mdadm fails: %v", err)
	}
}

func TestADifferenceThatIsNoNumberIsCorrupt(t *testing.T) {
	t.Parallel()
	sys := degraded()
	delete(sys, "md127/md/sync_action") // the array is idle, and the check is over at once
	delete(sys, "md127/md/sync_completed")
	sys["md127/md/mismatch_cnt"] = "many"
	h, _, _ := host(t, sys)
	if list, err := h.Arrays(t.Context()); err != nil || list[0].Action != "idle" || list[0].Total != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	action := filepath.Join(h.Root, "sys/block/md127/md/sync_action")
	if err := os.Symlink("/dev/null", action); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Check(t.Context(), sample().Array); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), `the number of differences is "many"`) {
		t.Errorf("%v", err)
	}
	if err := replace(filepath.Join(h.Root, "sys/block/md127/md/mismatch_cnt")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Check(t.Context(), sample().Array); err == nil || errkind.Of(err) == errkind.Corrupt {
		t.Errorf("a number that cannot be read: %v", err)
	}
}

func TestRolesOfASuperblock(t *testing.T) {
	t.Parallel()
	encode := func(change func(*md.Superblock), roles ...int) []byte {
		s := sample()
		change(&s)
		b := make([]byte, size/64)
		copy(b[mdtest.Place(int64(len(b))):], mdtest.Encode(s, int64(len(b)), 1, roles))
		return b
	}
	same := func(*md.Superblock) {}
	for want, b := range map[int][]byte{1: encode(same, 0, 1), md.RoleFaulty: encode(same, 0, md.RoleFaulty), md.RoleSpare: encode(same, 0), md.RoleJournal: encode(same, 0, 0xfffd)} {
		if s, err := md.Examine(bytes.NewReader(b), int64(len(b))); err != nil || s.Role != want {
			t.Errorf("%+v, %v, want role %d", s, err, want)
		}
	}
	many := encode(func(s *md.Superblock) { s.Slots = 5000 }, 0, 1)
	if s, err := md.Examine(bytes.NewReader(many), int64(len(many))); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), "5000 slots") {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := md.Examine(bytes.NewReader(nil), size); err == nil || errkind.Of(err) == errkind.NotFound {
		t.Errorf("a device that cannot be read: %v", err)
	}
}
