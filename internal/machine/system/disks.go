package system

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// A BlockKind is what a block device is.
type BlockKind int

// The kinds of block devices.
const (
	PlainDisk BlockKind = iota + 1
	Partition
	Loop
	RAID
	Mapped
	Optical
	InMemory
)

// sector is the unit of sizes in sysfs and diskstats, whatever the block size of the disk.
const sector = 512

// A Disk is one block device.
type Disk struct {
	Name                          string
	Kind                          BlockKind
	Major, Minor                  uint32
	Parent                        string // the disk of a partition
	Size                          uint64 // bytes
	LogicalBlockSize              uint32
	ReadOnly, Removable, Rotating bool
	Model, Serial, WWID           string
	MapperName                    string
	Members                       []string // the devices below
	MountPoints                   []string
	Statistics                    DiskStatistics
}

// DiskStatistics are counted since the device appeared.
type DiskStatistics struct {
	Reads, ReadsMerged, BytesRead            uint64
	Writes, WritesMerged, BytesWritten       uint64
	Discards, DiscardsMerged, BytesDiscarded uint64
	Flushes, InFlight                        uint64
	ReadTime, WriteTime, DiscardTime         time.Duration
	FlushTime, BusyTime, WeightedTime        time.Duration
}

// maxDisks bounds the block devices of an answer.
const maxDisks = 10_000

// Disks returns the block devices in the order of their names, each partition after its disk.
// A device that disappears during the call is absent.
func (r *Reader) Disks(ctx context.Context) ([]Disk, error) {
	const doing = "read the disks"
	names, err := os.ReadDir(r.path("sys/class/block"))
	if err != nil {
		return nil, failed(doing, err)
	}
	if len(names) > maxDisks {
		return nil, tooMany(doing, "block devices", len(names), maxDisks)
	}
	text, err := r.read("proc/diskstats", largeFile)
	if err != nil {
		return nil, failed(doing, err)
	}
	statistics := parseDiskstats(text)
	mounted := r.mountPoints()
	disks := make([]Disk, 0, len(names))
	for _, entry := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, ok := r.disk(entry.Name())
		if !ok {
			continue
		}
		d.Statistics = statistics[d.Name]
		d.MountPoints = append(mounted[fmt.Sprintf("%d:%d", d.Major, d.Minor)], mounted["/dev/"+d.Name]...)
		disks = append(disks, d)
	}
	slices.SortStableFunc(disks, func(a, b Disk) int {
		return cmp.Or(compareNames(cmp.Or(a.Parent, a.Name), cmp.Or(b.Parent, b.Name)), cmp.Compare(a.Parent, b.Parent), compareNames(a.Name, b.Name))
	})
	return disks, nil
}

// compareNames compares names with numbers at their end: sda2 comes before sda10.
func compareNames(a, b string) int {
	stem := func(s string) string { return strings.TrimRight(s, "0123456789") }
	return cmp.Or(cmp.Compare(stem(a), stem(b)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// disk reads the attributes of a device; it reports whether the device exists.
func (r *Reader) disk(name string) (d Disk, ok bool) {
	dir := "sys/class/block/" + name + "/"
	d = Disk{Name: name, Kind: PlainDisk}
	if n, err := fmt.Sscanf(r.line(dir+"dev"), "%d:%d", &d.Major, &d.Minor); err != nil || n != 2 {
		return d, false
	}
	d.Size, d.ReadOnly = scaled(r.number(dir+"size"), sector), r.number(dir+"ro") == 1
	if r.line(dir+"partition") != "" {
		d.Kind = Partition
		if target, err := os.Readlink(r.path("sys/class/block/" + name)); err == nil {
			d.Parent = path.Base(path.Dir(target))
		}
		return d, true
	}
	d.Removable = r.number(dir+"removable") == 1
	d.LogicalBlockSize = uint32(min(r.number(dir+"queue/logical_block_size"), 1<<30)) //nolint:gosec // at most 2^30
	d.Rotating = r.number(dir+"queue/rotational") == 1
	switch {
	case strings.HasPrefix(name, "loop"):
		d.Kind = Loop
		return d, true
	case strings.HasPrefix(name, "ram"), strings.HasPrefix(name, "zram"):
		d.Kind = InMemory
		return d, true
	case strings.HasPrefix(name, "sr"):
		d.Kind = Optical
	case strings.HasPrefix(name, "dm-"):
		d.Kind, d.MapperName = Mapped, r.line(dir+"dm/name")
	case strings.HasPrefix(name, "md"):
		d.Kind = RAID
	}
	if d.Kind == Mapped || d.Kind == RAID {
		members, _ := os.ReadDir(r.path(dir + "slaves"))
		for _, m := range members {
			d.Members = append(d.Members, m.Name())
		}
		return d, true
	}
	d.Model = r.line(dir + "device/model")
	d.Serial = cmp.Or(r.line(dir+"device/serial"), r.line(dir+"serial"))
	d.WWID = cmp.Or(r.line(dir+"wwid"), r.line(dir+"device/wwid"))
	return d, true
}

// parseDiskstats returns the statistics by the names of devices. Kernels before 4.18 have 11
// numbers, before 5.5 have 15, newer ones 17.
func parseDiskstats(text string) map[string]DiskStatistics {
	out := map[string]DiskStatistics{}
	for l := range strings.Lines(text) {
		fields := strings.Fields(l)
		if len(fields) < 14 {
			continue
		}
		var v [17]uint64
		for i := range min(len(v), len(fields)-3) {
			v[i] = parseNumber(fields[i+3])
		}
		out[fields[2]] = DiskStatistics{
			Reads: v[0], ReadsMerged: v[1], BytesRead: scaled(v[2], sector), ReadTime: millis(v[3]),
			Writes: v[4], WritesMerged: v[5], BytesWritten: scaled(v[6], sector), WriteTime: millis(v[7]),
			InFlight: v[8], BusyTime: millis(v[9]), WeightedTime: millis(v[10]),
			Discards: v[11], DiscardsMerged: v[12], BytesDiscarded: scaled(v[13], sector), DiscardTime: millis(v[14]),
			Flushes: v[15], FlushTime: millis(v[16]),
		}
	}
	return out
}

// mountPoints returns the mount points by the number of the device, and by the path of the
// source for file systems that have a number of their own, such as btrfs.
func (r *Reader) mountPoints() map[string][]string {
	out := map[string][]string{}
	all, err := r.mountTable()
	if err != nil {
		return out
	}
	for _, m := range all {
		key := fmt.Sprintf("%d:%d", m.Major, m.Minor)
		if m.Major == 0 && strings.HasPrefix(m.Source, "/dev/") {
			key = m.Source
		}
		if !slices.Contains(out[key], m.Target) {
			out[key] = append(out[key], m.Target)
		}
	}
	return out
}
