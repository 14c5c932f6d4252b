package gpt_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/damage"
	"github.com/trident-project/trident/internal/linux/gpt"
)

const mib = 1 << 20

func entry(number int, id byte, at, size int64, name string) gpt.Entry {
	typ, _ := gpt.ParseGUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
	return gpt.Entry{Number: number, Type: typ, ID: gpt.GUID{0: id, 6: 0x40, 8: 0x80}, Offset: at, Size: size, Name: name}
}

func table(sector int64, entries ...gpt.Entry) *gpt.Disk {
	return &gpt.Disk{ID: gpt.GUID{0: 9, 6: 0x40, 8: 0x80}, Size: 64 * mib, SectorSize: sector, Entries: entries}
}

func straight(_ string, change func() error) error { return change() }

func TestADiskReadsAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, sector := range []int64{512, 4096} {
		want := table(sector, entry(2, 1, mib, mib, "Größe"), entry(5, 2, 40*mib, 4096, ""), entry(128, 3, 8*mib, mib, "x"))
		m := blockdevtest.New(want.Size, sector)
		if _, err := gpt.ReadDisk(m, want.Size, sector); errkind.Of(err) != errkind.NotFound {
			t.Errorf("an empty disk: %v", err)
		}
		if err := want.Write(m, straight); err != nil {
			t.Fatal(err)
		}
		got, err := gpt.ReadDisk(m, want.Size, sector)
		if err != nil || !want.Equal(got) || got.Damaged != "" {
			t.Errorf("%v %s", err, cmp.Diff(want, got, cmp.AllowUnexported(gpt.Entry{})))
		}
		if err := want.Written(m); err != nil {
			t.Error(err)
		}
	}
}

func TestABrokenPrimaryTableIsReadFromItsBackup(t *testing.T) {
	t.Parallel()
	want := table(512, entry(1, 1, mib, mib, "one"))
	m := blockdevtest.New(want.Size, 512)
	if err := want.Write(m, straight); err != nil {
		t.Fatal(err)
	}
	if _, err := m.WriteAt([]byte("rubbish"), 1024); err != nil {
		t.Fatal(err)
	}
	got, err := gpt.ReadDisk(m, want.Size, 512)
	if err != nil || !want.Equal(got) || !strings.HasPrefix(got.Damaged, "primary table") {
		t.Fatalf("%v, %v", got, err)
	}
	if err := want.Written(m); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("it counts as written: %v", err)
	}
	if _, err := m.WriteAt([]byte("rubbish"), want.Size-512); err != nil {
		t.Fatal(err)
	}
	if _, err := gpt.ReadDisk(m, want.Size, 512); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("two broken ones: %v", err)
	}
}

// errCrash is what a touch ends with when the power is cut in it.
var errCrash = errors.New("power cut")

type replacement struct {
	name     string
	old, new *gpt.Disk
	damage   int64 // write rubbish there first
	byKernel bool  // the primary table has to be whole at all times
}

// However the power is cut while a table is replaced, and whatever the disk has
// made of what was not synced, the kernel finds the old table or the new one.
func TestAPowerCutLeavesTheOldTableOrTheNewOne(t *testing.T) {
	t.Parallel()
	older := table(512, entry(1, 1, mib, mib, "kept"), entry(2, 2, 4*mib, mib, "goes"))
	newer := table(512, entry(1, 1, mib, mib, "kept"), entry(3, 3, 4*mib, 20*mib, "comes"))
	cramped := table(512, entry(1, 1, 34*512, mib, "right behind the table"))
	tests := []replacement{
		{"replaced", older, newer, 0, true},
		{"on an empty disk", nil, newer, 0, true},
		{"the same again", older, older, 0, true},
		{"the old primary is broken", older, newer, 1024, false},
		{"the old backup is broken", older, newer, 64*mib - 512, true},
		{"there is no room", cramped, table(512, cramped.Entries[0], newer.Entries[1]), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cut := 0
			for tt.cutAt(t, cut) {
				cut++
			}
			if cut < 4 {
				t.Errorf("%d cuts only", cut)
			}
		})
	}
}

// cutAt cuts the power in touch n of a replacement, in many ways. It is false
// when there are not so many.
func (tt replacement) cutAt(t *testing.T, n int) bool {
	for seed := range uint64(30) {
		m := blockdevtest.New(64*mib, 512)
		if tt.old != nil {
			if err := tt.old.Write(m, straight); err != nil {
				t.Fatal(err)
			}
		}
		if tt.damage > 0 {
			_, _ = m.WriteAt([]byte("rubbish"), tt.damage)
			_ = m.Sync()
		}
		touches := 0
		err := tt.new.Write(lossy{m}, func(_ string, change func() error) error {
			if touches++; touches > n {
				return errors.Join(change(), errCrash)
			}
			return errors.Join(change(), m.Sync())
		})
		if err == nil {
			return false
		}
		if !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		after := m.Crash(rand.New(rand.NewPCG(seed, uint64(n))))
		check(t, fmt.Sprintf("cut %d, seed %d", n, seed), after, tt.old, tt.new, tt.byKernel)
		if err := errors.Join(tt.new.Write(after, straight), tt.new.Written(after)); err != nil {
			t.Fatalf("cut %d, seed %d: not written again: %v", n, seed, err)
		}
	}
	return true
}

// lossy is a disk whose Sync is only begun.
type lossy struct{ *blockdevtest.Memory }

func (lossy) Sync() error { return nil }

func check(t *testing.T, when string, m *blockdevtest.Memory, old, new *gpt.Disk, byKernel bool) {
	t.Helper()
	got, err := gpt.ReadDisk(m, 64*mib, 512)
	switch {
	case old == nil && errkind.Of(err) == errkind.NotFound:
	case err != nil:
		t.Errorf("%s: %v", when, err)
	case byKernel && strings.HasPrefix(got.Damaged, "primary"):
		t.Errorf("%s: %s", when, got.Damaged)
	case !got.Equal(new) && (old == nil || !got.Equal(old)):
		t.Errorf("%s: neither the old nor the new table: %+v", when, got.Entries)
	}
}

func TestAnImpossibleTableIsNotWritten(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*gpt.Disk{
		"overlap":         table(512, entry(1, 1, mib, 2*mib, ""), entry(2, 2, 2*mib, mib, "")),
		"over the table":  table(512, entry(1, 1, 512, mib, "")),
		"over the backup": table(512, entry(1, 1, 63*mib, mib, "")),
		"unaligned":       table(4096, entry(1, 1, mib+512, mib, "")),
		"number 0":        table(512, entry(0, 1, mib, mib, "")),
		"number 129":      table(512, entry(129, 1, mib, mib, "")),
		"number twice":    table(512, entry(1, 1, mib, mib, ""), entry(1, 2, 4*mib, mib, "")),
		"same UUID":       table(512, entry(1, 1, mib, mib, ""), entry(2, 1, 4*mib, mib, "")),
		"long name":       table(512, entry(1, 1, mib, mib, strings.Repeat("x", 37))),
		"huge":            table(512, entry(1, 1, mib, 1<<62, "")),
		"sector size":     table(500, entry(1, 1, mib, mib, "")),
	} {
		m := blockdevtest.New(64*mib, 512)
		if err := d.Write(m, straight); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherToolsReadTheSameTable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := table(512, entry(1, 1, mib, mib, "one"), entry(4, 2, 8*mib, 4*mib, "four"))
	if err := errors.Join(f.Truncate(want.Size), want.Write(f, straight)); err != nil {
		t.Fatal(err)
	}
	if tool, err := exec.LookPath("sgdisk"); err == nil {
		out, err := exec.Command(tool, "-v", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No problems found") {
			t.Errorf("sgdisk: %v: %s", err, out)
		}
	}
	tool, err := exec.LookPath("sfdisk")
	if err != nil {
		t.Skip("needs sfdisk")
	}
	out, err := exec.Command(tool, "-J", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		PartitionTable struct {
			Partitions []struct {
				Node, UUID, Name string
				Start, Size      int64
			}
		}
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	for i, p := range got.PartitionTable.Partitions {
		e := want.Entries[i]
		if p.Start*512 != e.Offset || p.Size*512 != e.Size || p.Name != e.Name || !strings.EqualFold(p.UUID, e.ID.String()) || p.Node != fmt.Sprint(path, e.Number) {
			t.Errorf("sfdisk has %+v, want %+v", p, e)
		}
	}
	sfdisk := exec.Command(tool, "-q", path)
	sfdisk.Stdin = strings.NewReader("label: gpt\nsize=4M, name=\"a\"\nsize=5M\n")
	if out, err := sfdisk.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	theirs, err := gpt.ReadDisk(f, want.Size, 512)
	if err != nil || len(theirs.Entries) != 2 || theirs.Entries[0].Name != "a" || theirs.Entries[1].Size != 5*mib || theirs.Damaged != "" {
		t.Errorf("what sfdisk wrote is %+v, %v", theirs, err)
	}
}

// Whatever is on a disk, reading it ends, and what was read can be written or is
// refused.
func FuzzReadDisk(f *testing.F) {
	m := blockdevtest.New(64*mib, 512)
	if err := table(512, entry(1, 1, mib, mib, "one")).Write(m, straight); err != nil {
		f.Fatal(err)
	}
	b := make([]byte, 3*512)
	if _, err := m.ReadAt(b, 0); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add(damage.At(512+32, 41))
	f.Add(damage.At(80, 0, 0, 0, 1))
	f.Fuzz(func(t *testing.T, edits []byte) {
		table := damage.Apply(b[512:], edits)
		b := make([]byte, gpt.FirstUsable(512))
		copy(b, "boot code")
		b[446+4], b[510], b[511] = 0xee, 0x55, 0xaa
		copy(b[512:], table)
		h := b[512:1024]
		// Without the right checksums nothing behind them is ever reached.
		count, size := uint64(binary.LittleEndian.Uint32(h[80:])), uint64(binary.LittleEndian.Uint32(h[84:]))
		if n := count * size; n < uint64(len(b)-1024) && binary.LittleEndian.Uint64(h[72:]) == 2 {
			binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(b[1024:1024+n]))
		}
		if n := binary.LittleEndian.Uint32(h[12:]); n >= 92 && n <= 512 {
			clear(h[16:20])
			binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:n]))
		}
		d, err := gpt.ReadDisk(bytes.NewReader(b), 64*mib, 512)
		if err != nil {
			return
		}
		m := blockdevtest.New(64*mib, 512)
		if err := d.Write(m, straight); err == nil {
			if err := d.Written(m); err != nil {
				t.Errorf("%v: %+v", err, d)
			}
		}
	})
}

// faulty is a disk that fails to read or write its sector at.
type faulty struct {
	*blockdevtest.Memory
	read, write int64
}

var errFaulty = errors.New("a bad sector")

func (f faulty) ReadAt(p []byte, off int64) (int, error) {
	if f.read > 0 && off <= f.read && f.read < off+int64(len(p)) {
		return 0, errFaulty
	}
	return f.Memory.ReadAt(p, off)
}

func (f faulty) WriteAt(p []byte, off int64) (int, error) {
	if f.write > 0 && off <= f.write && f.write < off+int64(len(p)) {
		return 0, errFaulty
	}
	return f.Memory.WriteAt(p, off)
}

// Written sees each difference between the disk and the table, in both copies.
func TestATableThatTheDiskHasNotKeptIsFound(t *testing.T) {
	t.Parallel()
	want := table(512, entry(1, 1, mib, mib, "kept"))
	other := table(512, entry(1, 1, mib, 2*mib, "kept"))
	for name, c := range map[string]struct {
		change func(m *blockdevtest.Memory) error
		want   string
	}{
		"another table":       {func(m *blockdevtest.Memory) error { return other.Write(m, straight) }, "read back partition table: it is not the one"},
		"no table":            {func(m *blockdevtest.Memory) error { *m = *blockdevtest.New(64*mib, 512); return nil }, "read back partition table: "},
		"no backup":           {func(m *blockdevtest.Memory) error { _, err := m.WriteAt(make([]byte, 512), 64*mib-512); return err }, "read back "},
		"the backup of other": {func(m *blockdevtest.Memory) error { return copyBackup(m, other) }, "read back "},
		"no primary":          {func(m *blockdevtest.Memory) error { _, err := m.WriteAt(make([]byte, 512), 512); return err }, "read back partition table: primary"},
	} {
		m := blockdevtest.New(64*mib, 512)
		if err := want.Write(m, straight); err != nil {
			t.Fatal(err)
		}
		if err := want.Written(m); err != nil {
			t.Fatalf("%s: before the change: %v", name, err)
		}
		if err := c.change(m); err != nil {
			t.Fatal(err)
		}
		if err := want.Written(m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// copyBackup gives m the backup of other.
func copyBackup(m *blockdevtest.Memory, other *gpt.Disk) error {
	from := blockdevtest.New(64*mib, 512)
	err := other.Write(from, straight)
	last := make([]byte, 33*512)
	_, read := from.ReadAt(last, 64*mib-33*512)
	_, write := m.WriteAt(last, 64*mib-33*512)
	return errors.Join(err, read, write)
}

func TestABadSectorIsAnError(t *testing.T) {
	t.Parallel()
	want := table(512, entry(1, 1, mib, mib, "kept"))
	for _, at := range []int64{512, 2 * 512, 64*mib - 512} {
		err := want.Write(faulty{Memory: blockdevtest.New(64*mib, 512), write: at}, straight)
		if !errors.Is(err, errFaulty) {
			t.Errorf("write of byte %d: %v", at, err)
		}
	}
	m := blockdevtest.New(64*mib, 512)
	if err := want.Write(m, straight); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{512, 64*mib - 512} {
		if err := want.Written(faulty{Memory: m, read: at}); err == nil || !strings.Contains(err.Error(), errFaulty.Error()) {
			t.Errorf("read of byte %d: %v", at, err)
		}
	}
}

func TestANameFitsInto36Units(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"": true, strings.Repeat("ö", 36): true, strings.Repeat("x", 37): false, strings.Repeat("🙂", 18): true, strings.Repeat("🙂", 19): false} {
		if gpt.NameFits(name) != want {
			t.Errorf("%q fits: %v", name, !want)
		}
	}
}
