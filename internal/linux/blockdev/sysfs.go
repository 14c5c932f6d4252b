package blockdev

import (
	"cmp"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// host reads below the root folder of a host and never outside of it.
type host struct{ root *os.Root }

const (
	maxAttribute = 4096
	maxNames     = 4096
)

// list returns the names in a folder, sorted; none if the folder does not exist.
func (h host) list(dir string) ([]string, error) {
	f, err := h.root.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxNames + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxNames {
		return nil, errkind.Errorf(errkind.TooLarge, "/%s has more than %d entries", dir, maxNames)
	}
	slices.Sort(names)
	return names, nil
}

// read returns the first limit bytes of a file, or nil if it cannot be read.
func (h host) read(name string, limit int64) []byte {
	f, err := h.root.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil
	}
	return data
}

func (h host) text(name string) string {
	return strings.TrimSpace(strings.Trim(string(h.read(name, maxAttribute)), "\x00"))
}

// number returns the number in a file, or -1.
func (h host) number(name string) int64 {
	n, err := strconv.ParseInt(h.text(name), 10, 64)
	if err != nil || n < 0 || n > 1<<51 {
		return -1
	}
	return n
}

func (h host) disk(name string, uses map[string]Use, links map[string][]string) Disk {
	sys := "sys/block/" + name
	d := Disk{
		Name: name, Path: "/dev/" + name, Links: links[name], Use: uses[name],
		Size: h.number(sys+"/size") * sysfsSector, SectorSize: max(h.number(sys+"/queue/logical_block_size"), 512),
		Model: h.text(sys + "/device/model"), Serial: cmp.Or(h.text(sys+"/serial"), h.text(sys+"/device/serial"), h.page80(sys)),
		Removable: h.number(sys+"/removable") > 0, ReadOnly: h.number(sys+"/ro") > 0,
	}
	h.content(&d)
	h.known(&d, uses, links)
	for i := range d.Partitions {
		h.partitionContent(&d, &d.Partitions[i])
	}
	return d
}

// other returns the Other of a block device. The part of dm/uuid before "-" names the tool
// that made the device (kernel documentation of device-mapper).
func (h host) other(name string, uses map[string]Use, links map[string][]string) Other {
	sys := "sys/block/" + name
	o := Other{Name: name, Path: "/dev/" + name, Links: links[name], Use: uses[name], Size: max(0, h.number(sys+"/size")) * sysfsSector}
	o.Over, _ = h.list(sys + "/slaves")
	if o.Label = h.text(sys + "/dm/name"); o.Label != "" { // without udev it is a device file, and not a link
		if file := "/dev/mapper/" + o.Label; !slices.Contains(o.Links, file) {
			o.Links = append(o.Links, file)
		}
	}
	uuid := h.text(sys + "/dm/uuid")
	maker, _, _ := strings.Cut(uuid, "-")
	switch {
	case maker == "mpath":
		o.Is = Multipath
	case strings.Contains(uuid, "mpath-"):
		o.Is = "a partition of a multipath device"
	case maker == "LVM":
		o.Is = "an LVM volume"
	case maker == "CRYPT" && strings.HasPrefix(uuid, "CRYPT-VERITY-"):
		o.Is = Verified
	case maker == "CRYPT":
		o.Is, o.UUID = Encrypted, luksUUID(uuid)
	case strings.HasPrefix(name, "dm-"):
		o.Is = "a device-mapper device"
	case strings.HasPrefix(name, "md"):
		o.Is, o.Level = Array, h.text(sys+"/md/level")
		o.UUID, o.Label = h.identity(o.Over)
	case strings.HasPrefix(name, "sr"):
		o.Is = "an optical drive"
	case strings.HasPrefix(name, "fd"):
		o.Is = "a floppy drive"
	case strings.HasPrefix(name, "ram"), strings.HasPrefix(name, "zram"):
		o.Is = "memory"
	default:
		o.Is = "a drive without a medium"
	}
	if f, err := h.root.Open("dev/" + name); err == nil && len(o.Over) > 0 && o.Size > 0 {
		o.Content = Probe(f, o.Size)
		_ = f.Close()
	}
	return o
}

// luksUUID returns the UUID of the header of an open volume, or "": cryptsetup(8) has it
// without dashes in dm/uuid, CRYPT-LUKS2-UUID-NAME.
func luksUUID(dm string) string {
	fields := strings.SplitN(dm, "-", 4)
	if len(fields) < 4 || !strings.HasPrefix(fields[1], "LUKS") {
		return ""
	}
	raw, err := hex.DecodeString(fields[2])
	if err != nil || len(raw) != 16 {
		return ""
	}
	return uuid(raw)
}

// identity returns the UUID and the name, without its homehost, of the array with those
// members. /sys has neither in all kernels, so identity reads the superblock of a member.
func (h host) identity(members []string) (id, name string) {
	for _, member := range members {
		f, err := h.root.Open("dev/" + member)
		if err != nil {
			continue
		}
		c, _ := raidMember(f, h.number("sys/class/block/"+member+"/size")*sysfsSector)
		_ = f.Close()
		if c.UUID != "" {
			name = c.Label
			if _, rest, ok := strings.Cut(name, ":"); ok {
				name = rest
			}
			return c.UUID, name
		}
	}
	return "", ""
}

// page80 returns the serial number of a SCSI disk: vital product data, page 0x80
// (SPC-4, 7.8.17).
func (h host) page80(sys string) string {
	data := h.read(sys+"/device/vpd_pg80", maxAttribute)
	if len(data) < 4 {
		return ""
	}
	return strings.TrimSpace(strings.Trim(string(data[4:]), "\x00"))
}

// content reads the table of a disk or, if it has none, recognizes its content.
func (h host) content(d *Disk) {
	f, err := h.root.Open("dev/" + d.Name)
	if err != nil {
		d.Problem = "its device file cannot be opened: " + err.Error()
		return
	}
	defer f.Close()
	table, err := gpt.ReadDisk(f, d.Size, d.SectorSize)
	if errkind.Of(err) != errkind.NotFound {
		d.Leftover = Leftover(f, d.Size)
	}
	switch {
	case err == nil:
		d.Table, d.TableID, d.GPT, d.Problem = TableGPT, table.ID.String(), table, table.Damaged
		for _, e := range table.Entries {
			name := PartitionName(d.Name, e.Number)
			d.Partitions = append(d.Partitions, Partition{
				Number: e.Number, Name: name, Path: "/dev/" + name, Offset: e.Offset, Size: e.Size,
				Type: e.Type.String(), UUID: e.ID.String(), Label: e.Name,
			})
		}
	case errkind.Of(err) == errkind.NotFound && gpt.HasBackup(f, d.Size, d.SectorSize):
		d.Table, d.Leftover = TableGPT, Leftover(f, d.Size)
		d.Problem = "only the backup of its partition table is left"
	case errkind.Of(err) == errkind.NotFound:
		if d.Content = Probe(f, d.Size); d.Content == (Content{}) && hasMBR(f) {
			d.Table = TableDOS
		}
	case errkind.Of(err) == errkind.Corrupt:
		d.Table, d.Problem = TableGPT, err.Error()
	default:
		d.Problem = err.Error()
	}
}

// known adds the kernel's facts about the partitions of d, and the partitions that are no
// longer in the table, because they may be in use.
func (h host) known(d *Disk, uses map[string]Use, links map[string][]string) {
	names, _ := h.list("sys/block/" + d.Name)
	for _, name := range names {
		sys := path.Join("sys/block", d.Name, name)
		number := int(h.number(sys + "/partition"))
		if number < 1 {
			continue
		}
		i := slices.IndexFunc(d.Partitions, func(p Partition) bool { return p.Number == number })
		if i < 0 {
			i = len(d.Partitions)
			d.Partitions = append(d.Partitions, Partition{
				Number: number, Offset: max(0, h.number(sys+"/start")) * sysfsSector, Size: max(0, h.number(sys+"/size")) * sysfsSector,
			})
		}
		p := &d.Partitions[i]
		p.Name, p.Path = name, "/dev/"+name
	}
	for i := range d.Partitions {
		p := &d.Partitions[i]
		p.Links, p.Use = links[p.Name], uses[p.Name]
	}
	slices.SortFunc(d.Partitions, func(a, b Partition) int { return cmp.Compare(a.Number, b.Number) })
}

// partitionContent reads the partition's own device file, because the disk's device file
// may not show what was written to the partition.
func (h host) partitionContent(d *Disk, p *Partition) {
	if f, err := h.root.Open("dev/" + p.Name); err == nil {
		defer f.Close()
		p.Content = Probe(f, p.Size)
	} else if f, err := h.root.Open("dev/" + d.Name); err == nil {
		defer f.Close()
		p.Content = Probe(io.NewSectionReader(f, p.Offset, p.Size), p.Size)
	}
}

func hasMBR(r io.ReaderAt) bool {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil {
		return false
	}
	return b[510] == 0x55 && b[511] == 0xaa
}
