package loader

import (
	"slices"
	"testing"

	"github.com/trident-project/trident/internal/boot/grubcfg"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
)

// The kernel of an image with a verified file system opens the tree that Trident has verified,
// on the devices of the slot, whatever the image's own arguments say.
func TestGrubOpensTheVerifiedFileSystemsOfTheSlot(t *testing.T) {
	t.Parallel()
	const pairs = "  abUpdate: {volumePairs: [{id: root, volumeAId: ra, volumeBId: rb}, {id: data, volumeAId: da, volumeBId: db}, {id: hash, volumeAId: ha, volumeBId: hb}, {id: overlay, volumeAId: oa, volumeBId: ob}]}\n"
	image := []string{"quiet", "root=x", "roothash=x", "usrhash=x", "systemd.verity_usr_data=x", "systemd.verity_root_hash=x", "mount.usr=x", "rd.overlayfs=x"}
	paths := map[string]string{"rb": "/dev/disk/by-partuuid/r", "db": "/d", "hb": "/h", "ob": "/o"}
	for name, tt := range map[string]struct {
		storage string
		want    []string
	}{
		"usr": {
			"storage:\n" + pairs + "  verity: [{id: v, name: usr, dataDeviceId: data, hashDeviceId: hash}]\n  filesystems: [{deviceId: root, mountPoint: /}, {deviceId: v, mountPoint: {path: /usr, options: ro}}]\n",
			[]string{"quiet", "root=PARTUUID=r", "rd.systemd.verity=1", "usrhash=ab", "systemd.verity_usr_data=/d", "systemd.verity_usr_hash=/h", "systemd.verity_usr_options=", "mount.usr=/dev/mapper/usr"},
		},
		"root": {
			"storage:\n" + pairs + "  verity: [{id: v, name: root, dataDeviceId: data, hashDeviceId: hash, corruptionOption: panic}]\n  filesystems: [{deviceId: v, mountPoint: {path: /, options: ro}}, {deviceId: overlay, mountPoint: /var/lib/trident-overlay}]\n",
			[]string{"quiet", "usrhash=x", "systemd.verity_usr_data=x", "mount.usr=x", "rd.systemd.verity=1", "roothash=ab", "systemd.verity_root_data=/d", "systemd.verity_root_hash=/h",
				"systemd.verity_root_options=panic-on-corruption", "root=/dev/mapper/root", "rd.overlayfs=/etc,/etc/upper,/etc/work,/o"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &record.Record{
				Asked: hostconfig.NewRecorded(tt.storage), Slot: slot.B,
				Parts: []record.Part{{Tree: &record.Tree{Device: "hash", RootHash: "ab"}}},
			}
			c, err := r.Config()
			if err != nil {
				t.Fatal(err)
			}
			args, err := added(r, paths, c, "/dev/disk/by-partuuid/r")
			if err != nil {
				t.Fatal(err)
			}
			if got := (grubcfg.Kernel{Args: image}).With(dropped(c), args).Args; !slices.Equal(got, tt.want) {
				t.Errorf("the arguments are %q,\nwant %q", got, tt.want)
			}
			r.Parts = nil
			if _, err := added(r, paths, c, "/dev/x"); errkind.Of(err) != errkind.Internal {
				t.Errorf("an image without the tree: %v", err)
			}
		})
	}
}
