package storage

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/slot"
)

func TestTheArgumentsOfAVerityDeviceNameTheHalvesOfTheSlot(t *testing.T) {
	t.Parallel()
	s := &hostconfig.Storage{
		ABUpdate: &hostconfig.ABUpdate{VolumePairs: []hostconfig.VolumePair{
			{ID: "data", VolumeAID: "data-a", VolumeBID: "data-b"}, {ID: "hash", VolumeAID: "hash-a", VolumeBID: "hash-b"},
			{ID: "overlay", VolumeAID: "overlay-a", VolumeBID: "overlay-b"},
		}},
		Filesystems: []hostconfig.Filesystem{
			{DeviceID: "v", MountPoint: &hostconfig.MountPoint{Path: "/", Options: "ro"}},
			{DeviceID: "overlay", MountPoint: &hostconfig.MountPoint{Path: "/var/lib/trident-overlay"}},
		},
		Verity: []hostconfig.Verity{{ID: "v", Name: "root", DataDeviceID: "data", HashDeviceID: "hash", CorruptionOption: hostconfig.CorruptionPanic}},
	}
	paths := map[string]string{"data-a": "/da", "data-b": "/db", "hash-a": "/ha", "hash-b": "/hb", "overlay-b": "/ob"}
	got, err := VerityArguments(s, paths, slot.B, &s.Verity[0], "abcd")
	want := []string{
		"rd.systemd.verity=1", "roothash=abcd", "systemd.verity_root_data=/db", "systemd.verity_root_hash=/hb",
		"systemd.verity_root_options=panic-on-corruption", "root=/dev/mapper/root",
		"rd.overlayfs=/etc,/etc/upper,/etc/work,/ob",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	s.Verity[0].Name, s.Verity[0].CorruptionOption = "usr", hostconfig.CorruptionIOError
	got, err = VerityArguments(s, paths, slot.A, &s.Verity[0], "abcd")
	want = []string{
		"rd.systemd.verity=1", "usrhash=abcd", "systemd.verity_usr_data=/da", "systemd.verity_usr_hash=/ha",
		"systemd.verity_usr_options=", "mount.usr=/dev/mapper/usr",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	delete(paths, "hash-a")
	if _, err := VerityArguments(s, paths, slot.A, &s.Verity[0], "abcd"); errkind.Of(err) != errkind.NotFound {
		t.Errorf("without a hash device: %v", err)
	}
	s.Verity[0].Name = "home"
	if _, err := VerityArguments(s, paths, slot.B, &s.Verity[0], "abcd"); errkind.Of(err) != errkind.Invalid {
		t.Errorf("a device of another name: %v", err)
	}
}
