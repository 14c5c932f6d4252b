package storage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/run"
)

// bench is a host with disks in memory, by their paths, and tools that write as
// little as makes a file system.
type bench struct {
	disks map[string]*blockdevtest.Memory
	ran   []string
	over  *layered
}

func newBench(t testing.TB, inv *blockdev.Inventory) *bench {
	t.Helper()
	b := &bench{disks: map[string]*blockdevtest.Memory{}}
	b.over = newLayered(b)
	for _, d := range inv.Disks {
		m := blockdevtest.New(d.Size, d.SectorSize)
		b.disks[d.Path] = m
		if d.GPT == nil {
			continue
		}
		if err := d.GPT.Write(m, func(_ string, change func() error) error { return change() }); err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Partitions { // what was there before
			for _, at := range []int64{p.Offset, p.Offset + p.Size - 4096} {
				if _, err := m.WriteAt([]byte(strings.Repeat("old "+p.Name, 100)), at); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = m.Sync()
	}
	return b
}

func (b *bench) tools() Tools {
	return Tools{
		Runner: run.Func(b.run), Open: b.open, Arrays: b.over, Volumes: volumes{layered: b.over}, Key: keyOf,
		Await: func(_ context.Context, paths ...string) error {
			_, err := b.open(paths[0], false)
			return err
		},
	}
}

// open finds partitions by the table on the disk, as the kernel does.
func (b *bench) open(path string, exclusive bool) (blockdev.Device, error) {
	m := b.disks[path]
	if exclusive && (m != nil && len(b.over.arrays)+len(b.over.volumes) > 0 || len(b.over.holders(b.over.kernelPath(path))) > 0) {
		return nil, errkind.Errorf(errkind.Precondition, "open %s: the device is in use", path)
	}
	if m != nil {
		return m, nil
	}
	if dev, ok, err := b.over.open(path); ok {
		return dev, err
	}
	for disk, m := range b.disks {
		table, err := gpt.ReadDisk(m, m.Size(), m.SectorSize())
		if err != nil {
			continue
		}
		for _, e := range table.Entries {
			if "/dev/"+blockdev.PartitionName(strings.TrimPrefix(disk, "/dev/"), e.Number) == path {
				return m.Part(e.Offset, e.Size), nil
			}
		}
	}
	return nil, errkind.Errorf(errkind.NotFound, "there is no %s", path)
}

func (b *bench) run(_ context.Context, name string, args ...string) ([]byte, error) {
	b.ran = append(b.ran, name+" "+strings.Join(args, " "))
	dev, err := b.open(args[len(args)-1], true)
	if err != nil {
		return nil, err
	}
	id := ""
	for i, a := range args {
		if a == "-U" || a == "-i" {
			id = args[i+1]
		} else if rest, ok := strings.CutPrefix(a, "uuid="); ok {
			id = rest
		}
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil {
		return nil, err
	}
	at := func(off int64, data string) { _, e := dev.WriteAt([]byte(data), off); err = errors.Join(err, e) }
	switch name {
	case "mkfs.ext4":
		at(1024+56, "\x53\xef")
		at(1024+96, "\x40")
		at(1024+104, string(raw))
	case "mkfs.xfs":
		at(0, "XFSB")
		at(32, string(raw))
	case "mkfs.vfat":
		slices.Reverse(raw)
		at(82, "FAT32   ")
		at(67, string(raw))
		at(71, "NO NAME    ")
		at(510, "\x55\xaa")
	case "mkswap":
		at(4086, "SWAPSPACE2")
		at(1036, string(raw))
	}
	return nil, err
}

// check is whether the disks are as a plan wants them.
func (b *bench) check(t *testing.T, plan *Plan, when string) {
	t.Helper()
	for _, d := range plan.disks {
		m := b.disks[d.path]
		if err := d.table.Written(m); err != nil {
			t.Errorf("%s: %s: %v", when, d.path, err)
		}
		if m.Rereads() == 0 {
			t.Errorf("%s: the kernel was not told of the table of %s", when, d.path)
		}
		for _, p := range d.created {
			head := make([]byte, 512)
			if _, err := m.ReadAt(head, p.Offset); err != nil || strings.HasPrefix(string(head), "old") {
				t.Errorf("%s: %s has what was there before: %v", when, p.ID, err)
			}
		}
	}
	for _, f := range plan.described.Formats {
		dev, err := b.open(f.Path, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := blockdev.Probe(dev, dev.Size()); got.Type != f.Type || got.UUID != f.UUID {
			t.Errorf("%s: %s has %+v, want %+v", when, f.ID, got, f)
		}
	}
	b.checkLayers(t, plan, when)
	for _, d := range plan.described.Disks {
		for _, p := range d.Partitions {
			head := make([]byte, 8)
			if _, err := b.disks[d.Path].ReadAt(head, p.Offset); p.Action == Adopt && (err != nil || !strings.HasPrefix(string(head), "old ")) {
				t.Errorf("%s: adopted %s lost its content: %q", when, p.ID, head)
			}
		}
	}
}

// hosts are what plans are applied to.
func hosts(t testing.TB) map[string]struct {
	config string
	inv    *blockdev.Inventory
} {
	four := emptyDisk("sda", 16*gib)
	four.SectorSize = 4096
	return map[string]struct {
		config string
		inv    *blockdev.Inventory
	}{
		"empty":        {abConfig, inventory(emptyDisk("sda", 16*gib))},
		"4 KiB":        {abConfig, inventory(four)},
		"over another": {abConfig, inventory(usedDisk(t, "sda", 16*gib, []old{{"EFI", mib, 512 * mib, "vfat", blockdev.Use{}}, {"x", gib, 15*gib - mib, "ext4", blockdev.Use{}}}))},
		"adopt":        {adoptConfig, adoptHost(t)},
		"layers":       {raidConfig, inventory(emptyDisk("sda", 16*gib), emptyDisk("sdb", 16*gib))},
	}
}

func TestAPlanIsAppliedAndAppliedAgain(t *testing.T) {
	t.Parallel()
	for name, h := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := NewPlan(parse(t, h.config), h.inv, request(Install))
			if err != nil {
				t.Fatal(err)
			}
			b := newBench(t, h.inv)
			for _, when := range []string{"once", "twice"} {
				if err := plan.Apply(t.Context(), b.tools(), nil); err != nil {
					t.Fatal(err)
				}
				b.check(t, plan, when)
			}
			half := len(b.ran) / 2
			if !slices.Equal(b.ran[:half], b.ran[half:]) {
				t.Errorf("the second time it ran %q", b.ran[half:])
			}
		})
	}
}

func TestAnUpdateMakesTheOtherSlotsFileSystems(t *testing.T) {
	t.Parallel()
	inv := installed(t, abConfig, inventory(emptyDisk("sda", 16*gib)))
	plan, err := NewPlan(parse(t, abConfig), inv, request(Update))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, inv)
	if err := plan.Apply(t.Context(), b.tools(), nil); err != nil {
		t.Fatal(err)
	}
	if len(b.ran) != 1 || !strings.HasPrefix(b.ran[0], "mkfs.ext4 ") || !strings.HasSuffix(b.ran[0], " /dev/sda5") {
		t.Errorf("it ran %q", b.ran)
	}
	b.check(t, plan, "after the update")
}

var errCut = errors.New("power cut")

// Wherever the power is cut, the disk has the old table or the new one, and a
// plan that is made again from what is there then, and applied, ends as if
// nothing had happened.
func TestApplyingSurvivesPowerCuts(t *testing.T) {
	t.Parallel()
	for name, h := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := parse(t, h.config)
			want, err := NewPlan(spec, h.inv, request(Install))
			if err != nil {
				t.Fatal(err)
			}
			touches := 0
			b := newBench(t, h.inv)
			err = want.Apply(t.Context(), b.tools(), func(_ string, change func() error) error { touches++; return change() })
			if err != nil {
				t.Fatal(err)
			}
			b.check(t, want, "no cut")
			if touches < 8 {
				t.Errorf("%d touches only", touches)
			}
			for cut := range touches {
				for i, way := range []struct {
					after bool
					seed  uint64 // of what the disks have kept
				}{{false, 0}, {true, 0}, {true, 1}} {
					if !hosttest.InTurn(cut + i) {
						continue
					}
					when := fmt.Sprintf("cut %d, %+v", cut, way)
					b := newBench(t, h.inv)
					n := 0
					err := want.Apply(t.Context(), b.tools(), func(_ string, change func() error) error {
						if n++; n <= cut {
							return change()
						}
						if way.after {
							return errors.Join(change(), errCut)
						}
						return errCut
					})
					if !errors.Is(err, errCut) {
						t.Fatalf("%s: %v", when, err)
					}
					b.powerCut(rand.New(rand.NewPCG(way.seed, uint64(cut))))
					b.over.assemble(b.inventory(h.inv))
					now := b.inventory(h.inv)
					b.oldOrNew(t, when, h.inv, want)
					again, err := NewPlan(spec, now, request(Install))
					if err != nil {
						t.Fatalf("%s: %v", when, err)
					}
					if err := again.Apply(t.Context(), b.tools(), nil); err != nil {
						t.Fatalf("%s: %v", when, err)
					}
					b.check(t, want, when)
				}
			}
			t.Logf("%d touches", touches)
		})
	}
}

func (b *bench) powerCut(keep *rand.Rand) {
	for path, m := range b.disks {
		b.disks[path] = m.Crash(keep)
	}
	b.over = newLayered(b)
}

func (b *bench) oldOrNew(t *testing.T, when string, inv *blockdev.Inventory, plan *Plan) {
	t.Helper()
	for i, d := range inv.Disks {
		now, err := gpt.ReadDisk(b.disks[d.Path], d.Size, d.SectorSize)
		switch {
		case err != nil && d.GPT == nil && errkind.Of(err) == errkind.NotFound:
		case err != nil:
			t.Errorf("%s: %v", when, err)
		case !now.Equal(plan.disks[i].table) && (d.GPT == nil || !now.Equal(d.GPT)):
			t.Errorf("%s: neither the old table nor the new one: %+v", when, now.Entries)
		}
	}
}

// inventory is what a new daemon sees.
func (b *bench) inventory(before *blockdev.Inventory) *blockdev.Inventory {
	out := &blockdev.Inventory{}
	for _, d := range before.Disks {
		uses := map[int]blockdev.Use{}
		for _, p := range d.Partitions {
			uses[p.Number] = p.Use
		}
		d.GPT, d.Table, d.TableID, d.Partitions = nil, "", "", nil
		if table, err := gpt.ReadDisk(b.disks[d.Path], d.Size, d.SectorSize); err == nil {
			d.GPT, d.Table, d.TableID = table, blockdev.TableGPT, table.ID.String()
			for _, e := range table.Entries {
				name := blockdev.PartitionName(d.Name, e.Number)
				d.Partitions = append(d.Partitions, blockdev.Partition{Number: e.Number, Name: name, Path: "/dev/" + name, Offset: e.Offset, Size: e.Size,
					Type: e.Type.String(), UUID: e.ID.String(), Label: e.Name, Use: uses[e.Number], Content: blockdev.Probe(b.disks[d.Path].Part(e.Offset, e.Size), e.Size)})
				p := &d.Partitions[len(d.Partitions)-1]
				p.Use.Holders = append(p.Use.Holders, b.over.holders(p.Path)...)
			}
		}
		out.Disks = append(out.Disks, d)
	}
	out.Others = b.over.others()
	return out
}

func TestADiskThatChangedIsLeftAlone(t *testing.T) {
	t.Parallel()
	inv := inventory(usedDisk(t, "sda", 16*gib, []old{{"EFI", mib, 512 * mib, "vfat", blockdev.Use{}}}))
	plan, err := NewPlan(parse(t, abConfig), inv, request(Install))
	if err != nil {
		t.Fatal(err)
	}
	other := usedDisk(t, "sda", 16*gib, []old{{"other", mib, gib, "", blockdev.Use{}}})
	for name, d := range map[string]blockdev.Disk{
		"another table": other, "a smaller disk": usedDisk(t, "sda", 8*gib, nil), "no table": emptyDisk("sda", 16*gib),
	} {
		b := newBench(t, inventory(d))
		touched := false
		err := plan.Apply(t.Context(), b.tools(), func(_ string, change func() error) error { touched = true; return change() })
		if errkind.Of(err) != errkind.Precondition || errkind.Variant(err) != "CreatePartitions" || touched || !strings.Contains(err.Error(), "not what it was") {
			t.Errorf("%s: %v, touched: %v", name, err, touched)
		}
	}
}

func TestOnlyNewPlanMakesAPlan(t *testing.T) {
	t.Parallel()
	for _, p := range []*Plan{nil, {}} {
		if err := p.Apply(t.Context(), Tools{}, nil); errkind.Of(err) != errkind.Internal {
			t.Errorf("got %v", err)
		}
	}
}

func TestAFailureNamesTheAct(t *testing.T) {
	t.Parallel()
	inv := inventory(emptyDisk("sda", 16*gib))
	plan, err := NewPlan(parse(t, abConfig), inv, request(Install))
	if err != nil {
		t.Fatal(err)
	}
	fail := errors.New("input/output error")
	for name, tt := range map[string]struct {
		spoil         func(*Tools)
		variant, want string
	}{
		"mkfs":                   {func(x *Tools) { x.Runner = failing("mkfs.xfs", x.Runner, fail) }, "CreateFilesystems", "make xfs on home (/dev/sda8): input/output error"},
		"mkswap":                 {func(x *Tools) { x.Runner = failing("mkswap", x.Runner, fail) }, "CreateSwap", "make swap on swap (/dev/sda6)"},
		"mkfs that does nothing": {func(x *Tools) { x.Runner = failing("mkfs.xfs", x.Runner, nil) }, "CreateFilesystems", "read back"},
		"nodes":                  {func(x *Tools) { x.Await = func(context.Context, ...string) error { return fail } }, "CreatePartitions", `partition disk "os" (/dev/sda)`},
	} {
		tools := newBench(t, inv).tools()
		tt.spoil(&tools)
		if err := plan.Apply(t.Context(), tools, nil); err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Variant(err) != tt.variant {
			t.Errorf("%s: %v (%s)", name, err, errkind.Variant(err))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := plan.Apply(ctx, newBench(t, inv).tools(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestUdevIsWaitedFor(t *testing.T) {
	t.Parallel()
	inv := inventory(emptyDisk("sda", 16*gib))
	plan, err := NewPlan(parse(t, abConfig), inv, request(Install))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, inv)
	var events []string
	tools := b.tools()
	tools.Udev = true
	tools.Runner = run.Func(func(ctx context.Context, name string, args ...string) ([]byte, error) {
		events = append(events, name)
		if name == "udevadm" {
			return nil, nil
		}
		return b.run(ctx, name, args...)
	})
	tools.Await = func(_ context.Context, paths ...string) error {
		events = append(events, fmt.Sprint(len(paths)))
		return nil
	}
	if err := plan.Apply(t.Context(), tools, nil); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("1 ", 8) + "udevadm " + strings.Repeat("2 ", 8) + "mkfs.xfs mkfs.vfat mkfs.ext4 mkfs.ext4 mkswap"
	if got := strings.Join(events, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func failing(tool string, otherwise run.Runner, err error) run.Runner {
	return run.Func(func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if name == tool {
			return nil, err
		}
		return otherwise.Run(ctx, name, args...)
	})
}

// A new partition may have the label that another is adopted by, and is not
// taken for it when the plan is made again after a power cut.
func TestAPartitionOfOurOwnIsNotAdopted(t *testing.T) {
	t.Parallel()
	config := strings.Replace(adoptConfig, "matchLabel: data", "matchLabel: rest", 1)
	inv := adoptHost(t)
	inv.Disks[0].GPT.Entries[1].Name, inv.Disks[0].Partitions[1].Label = "rest", "rest"
	plan, err := NewPlan(parse(t, config), inv, request(Install))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, inv)
	if err := plan.Apply(t.Context(), b.tools(), nil); err != nil {
		t.Fatal(err)
	}
	again, err := NewPlan(parse(t, config), b.inventory(inv), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := again.Target("data"); got.Partitions[0].Number != 2 || !again.disks[0].table.Equal(plan.disks[0].table) {
		t.Errorf("%s", again)
	}
	other := request(Install)
	other.Seed = []byte("the seed of somebody else")
	if _, err := NewPlan(parse(t, config), b.inventory(inv), other); errkind.Of(err) != errkind.Precondition {
		t.Errorf("another operation cannot tell them apart, and got %v", err)
	}
}
