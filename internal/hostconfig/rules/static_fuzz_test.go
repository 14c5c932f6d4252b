package rules

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
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

// storageOf is a storage section in which few ids mean many things.
func storageOf(c *choices) hostconfig.Storage {
	id := func() string { return pick(c, "a", "b", "c", "d", "e", "f", "") }
	var s hostconfig.Storage
	for range c.of(3) {
		d := hostconfig.Disk{ID: id(), Device: pick(c, "/dev/a", "/dev/b", "x")}
		for range c.of(5) {
			d.Partitions = append(d.Partitions, hostconfig.Partition{ID: id(), Size: pick(c, hostconfig.Grow, 4096, 8192),
				Type: pick(c, hostconfig.PartitionESP, hostconfig.PartitionRoot, hostconfig.PartitionRootVerity, hostconfig.PartitionUsr, hostconfig.PartitionUsrVerity, hostconfig.PartitionSwap, hostconfig.PartitionLinuxGeneric)})
		}
		for range c.of(2) {
			d.AdoptedPartitions = append(d.AdoptedPartitions, hostconfig.AdoptedPartition{ID: id(), MatchLabel: id()})
		}
		s.Disks = append(s.Disks, d)
	}
	for range c.of(3) {
		r := hostconfig.SoftwareRAID{ID: id(), Name: id(), Level: pick(c, hostconfig.RAID0, hostconfig.RAID1, hostconfig.RAID6)}
		for range c.of(4) {
			r.Devices = append(r.Devices, id())
		}
		s.RAID.Software = append(s.RAID.Software, r)
	}
	if c.of(2) == 1 {
		s.ABUpdate = &hostconfig.ABUpdate{}
		for range c.of(4) {
			s.ABUpdate.VolumePairs = append(s.ABUpdate.VolumePairs, hostconfig.VolumePair{ID: id(), VolumeAID: id(), VolumeBID: id()})
		}
	}
	if c.of(2) == 1 {
		s.Encryption = &hostconfig.Encryption{RecoveryKeyURL: pick[hostconfig.URL](c, "", "file:///k", "http://[::1", "x"), PCRs: []hostconfig.PCR{hostconfig.PCR(c.of(24))},
			Volumes: []hostconfig.EncryptedVolume{{ID: id(), DeviceName: id(), DeviceID: id()}}}
	}
	for range c.of(3) {
		s.Verity = append(s.Verity, hostconfig.Verity{ID: id(), Name: pick(c, "root", "usr", ""), DataDeviceID: id(), HashDeviceID: id()})
	}
	for range c.of(6) {
		f := hostconfig.Filesystem{DeviceID: id(), Source: pick(c, hostconfig.FromImage, hostconfig.FromNew, hostconfig.FromAdopted), Type: pick(c, "", hostconfig.Ext4, hostconfig.Tmpfs),
			OverrideESPMount: pick(c, hostconfig.ESPDefault, hostconfig.ESPOverride, hostconfig.ESPBlock)}
		if c.of(4) > 0 {
			f.MountPoint = &hostconfig.MountPoint{Path: pick(c, "/", "/boot", "/boot/efi", "/usr", "/var/lib/trident", "/var/lib/trident-overlay", "x", ""), Options: pick(c, "defaults", "ro", "")}
		}
		s.Filesystems = append(s.Filesystems, f)
	}
	for range c.of(3) {
		s.Swap = append(s.Swap, hostconfig.Swap{DeviceID: id()})
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
		spec := hostconfig.Spec{Storage: storageOf(&c)}
		spec.Trident.DatastorePath = pick(&c, "/var/lib/trident/x.sqlite", "x", "/x.db")
		spec.OS.Sysexts = []hostconfig.Extension{{Path: pick(&c, "", "/etc/extensions/x.raw", "x", "/")}}
		config := hostconfig.Empty().Amend(func(s *hostconfig.Spec) { *s = spec })
		first := Check(config, nil)
		if !slices.Equal(first, Check(config, nil)) {
			t.Error("another report for the same document")
		}
		for _, x := range first {
			if x.Path == "" || x.Message == "" || x.Severity == hostconfig.Error && x.Name == "" || (x.Name == "InvalidStorageGraph") != (x.Detail != "") {
				t.Errorf("finding %+v", x)
			}
			if x.Name == "InvalidStorageGraph" && !form.Within(x.Path, "storage") {
				t.Errorf("path %q", x.Path)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	hostconfigtest.Fuzz(f, func(t *testing.T, text []byte) {
		c, r := hostconfig.Parse(text, Check)
		if (c == nil) != (r.Err() != nil) {
			t.Fatalf("config %v, error %v", c, r.Err())
		}
		for _, x := range r {
			if x.Message == "" || x.Severity == "" || x.Severity == hostconfig.Error && x.Name == "" {
				t.Errorf("finding %+v", x)
			}
		}
		if c == nil {
			return
		}
		again, r := hostconfig.Parse(c.YAML(), Check)
		if again == nil {
			t.Fatalf("what was written is refused: %v\n%s", r, c.YAML())
		}
		if diff := cmp.Diff(c.Spec(), again.Spec()); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
		if string(again.YAML()) != string(c.YAML()) {
			t.Fatalf("not stable:\n%s\n%s", c.YAML(), again.YAML())
		}
	})
}
