package hostconfig

import (
	"slices"
	"testing"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// choices takes one decision after another out of bytes.
type choices []byte

func (c *choices) of(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

func pick[T any](c *choices, list ...T) T { return list[c.of(len(list))] }

// layout is a storage section in which few ids mean many things.
func layout(c *choices) Storage {
	id := func() string { return pick(c, "a", "b", "c", "d", "e", "f", "") }
	var s Storage
	for range c.of(3) {
		d := Disk{ID: id(), Device: pick(c, "/dev/a", "/dev/b", "x")}
		for range c.of(5) {
			d.Partitions = append(d.Partitions, Partition{ID: id(), Size: pick(c, Grow, 4096, 8192),
				Type: pick(c, PartitionESP, PartitionRoot, PartitionRootVerity, PartitionUsr, PartitionUsrVerity, PartitionSwap, PartitionLinuxGeneric)})
		}
		for range c.of(2) {
			d.AdoptedPartitions = append(d.AdoptedPartitions, AdoptedPartition{ID: id(), MatchLabel: id()})
		}
		s.Disks = append(s.Disks, d)
	}
	for range c.of(3) {
		r := SoftwareRAID{ID: id(), Name: id(), Level: pick(c, RAID0, RAID1, RAID6)}
		for range c.of(4) {
			r.Devices = append(r.Devices, id())
		}
		s.RAID.Software = append(s.RAID.Software, r)
	}
	if c.of(2) == 1 {
		s.ABUpdate = &ABUpdate{}
		for range c.of(4) {
			s.ABUpdate.VolumePairs = append(s.ABUpdate.VolumePairs, VolumePair{id(), id(), id()})
		}
	}
	if c.of(2) == 1 {
		s.Encryption = &Encryption{RecoveryKeyURL: pick[URL](c, "", "file:///k", "http://[::1", "x"), PCRs: []PCR{PCR(c.of(24))},
			Volumes: []EncryptedVolume{{id(), id(), id()}}}
	}
	for range c.of(3) {
		s.Verity = append(s.Verity, Verity{ID: id(), Name: pick(c, "root", "usr", ""), DataDeviceID: id(), HashDeviceID: id()})
	}
	for range c.of(6) {
		f := Filesystem{DeviceID: id(), Source: pick(c, FromImage, FromNew, FromAdopted), Type: pick(c, "", Ext4, Tmpfs),
			OverrideESPMount: pick(c, ESPDefault, ESPOverride, ESPBlock)}
		if c.of(4) > 0 {
			f.MountPoint = &MountPoint{pick(c, "/", "/boot", "/boot/efi", "/usr", "/var/lib/trident", "/var/lib/trident-overlay", "x", ""), pick(c, "defaults", "ro", "")}
		}
		s.Filesystems = append(s.Filesystems, f)
	}
	for range c.of(3) {
		s.Swap = append(s.Swap, Swap{id()})
	}
	return s
}

// No storage section makes the rules panic or go in circles; what is found has
// a path in the section, and is found again.
func FuzzStorageRules(f *testing.F) {
	f.Add([]byte("\x01\x00\x04\x00\x00\x01\x00\x01\x01\x01\x02"))
	f.Add([]byte("\x02\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := choices(b)
		spec := Spec{Storage: layout(&c)}
		spec.Trident.DatastorePath = pick(&c, "/var/lib/trident/x.sqlite", "x", "/x.db")
		spec.OS.Sysexts = []Extension{{Path: pick(&c, "", "/etc/extensions/x.raw", "x", "/")}}
		first := validate(&spec, places{})
		if !slices.Equal(first, validate(&spec, places{})) {
			t.Error("another report for the same document")
		}
		for _, x := range first {
			if x.Path == "" || x.Message == "" || x.Severity == Error && x.Name == "" || (x.Name == "InvalidStorageGraph") != (x.Detail != "") {
				t.Errorf("finding %+v", x)
			}
			if x.Name == "InvalidStorageGraph" && !form.Within(x.Path, "storage") {
				t.Errorf("path %q", x.Path)
			}
		}
	})
}

// Nothing leads from a document to itself, and all of it from an empty one.
func FuzzDiff(f *testing.F) {
	fuzzTexts(f, func(t *testing.T, text []byte) {
		c, _ := Parse(text)
		if c == nil {
			return
		}
		self, err := Diff(c, c)
		if err != nil {
			t.Fatal(err)
		}
		if force := flag(c.spec.InternalParams, "forceAbUpdate"); self.Kind != KindNone && !force || len(self.Reasons) > 0 && !force {
			t.Errorf("to itself: %s", reasons(self))
		}
		from, err := Diff(Empty(), c)
		if err != nil {
			t.Fatal(err)
		}
		if from.Kind != KindABUpdate && c.spec.Image != nil || len(from.Sysexts.Added) != len(c.spec.OS.Sysexts) {
			t.Errorf("from nothing: %s", reasons(from))
		}
		if _, err := Diff(c, Empty()); (err != nil) != (c.spec.Image != nil) {
			t.Errorf("to nothing: %v", err)
		}
	})
}
