package loader

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/boot/grubcfg"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/operation"
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

// The settings of the configuration replace those of the image, and stand before the arguments
// of a person, the last of which count.
func TestGrubPassesTheSettingsOfTheConfiguration(t *testing.T) {
	t.Parallel()
	image := []string{"quiet", "selinux=1", "enforcing=1", "security=selinux", "network-config=x"}
	for text, want := range map[string][]string{
		"os: {selinux: {mode: enforcing}}":                                                    {"quiet", "network-config=x", "root=/dev/x", "security=selinux", "selinux=1", "enforcing=1"},
		"os: {selinux: {mode: permissive}}":                                                   {"quiet", "network-config=x", "root=/dev/x", "security=selinux", "selinux=1", "enforcing=0"},
		"os: {selinux: {mode: disabled}, kernelCommandLine: {extraCommandLine: [selinux=1]}}": {"quiet", "network-config=x", "root=/dev/x", "selinux=0", "selinux=1"},
		"os: {netplan: {version: 2}}":                                                         {"quiet", "selinux=1", "enforcing=1", "security=selinux", "root=/dev/x", "network-config=disabled"},
	} {
		r := &record.Record{Asked: hostconfig.NewRecorded(text + "\n")}
		c, err := r.Config()
		if err != nil {
			t.Fatal(err)
		}
		args, err := added(r, nil, c, "/dev/x")
		if err != nil {
			t.Fatal(err)
		}
		if got := (grubcfg.Kernel{Args: image}).With(dropped(c), args).Args; !slices.Equal(got, want) {
			t.Errorf("%s: the arguments are %q,\nwant %q", text, got, want)
		}
	}
}

// GRUB reads /boot by itself, so its file system has to be in the image, and of a type that
// GRUB knows.
func TestGrubNeedsAFileSystemThatItReads(t *testing.T) {
	t.Parallel()
	const root = "storage: {filesystems: [{deviceId: root, mountPoint: /}]}\n"
	for name, c := range map[string]struct {
		parts []record.Part
		named string
		says  string
	}{
		"not in the image": {nil, errkind.NameInvalidBootConfiguration, "does not take the file system with /boot from the image"},
		"erofs":            {[]record.Part{{Device: "root", Name: "/", Type: "erofs"}}, errkind.NameUnsupportedBootFileSystemType, "the image's file system for / has /boot and is erofs; GRUB needs one of ext4, xfs, btrfs"},
		"btrfs":            {[]record.Part{{Device: "root", Name: "/", Type: "btrfs"}}, "", ""},
	} {
		run := operation.Rehearse("op", record.Record{Asked: hostconfig.NewRecorded(root), Bootloader: image.GRUB, Parts: c.parts}, nil)
		config, err := run.State.Config()
		if err != nil {
			t.Fatal(err)
		}
		err = checkBootType(run, &record.Examined{Record: &run.State, Config: config})
		if errkind.Variant(err) != c.named || (err == nil) != (c.named == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%s)", name, err, errkind.Variant(err))
		}
	}
}

func TestABootFolderWithoutAKernelIsRefused(t *testing.T) {
	t.Parallel()
	l := &Loader{}
	c, err := hostconfig.ParseRecorded([]byte("os: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	e := &record.Examined{Record: &record.Record{Bootloader: image.GRUB}, Config: c}
	for dir, says := range map[string]string{filepath.Join(t.TempDir(), "gone"): "read the image's /boot: ", t.TempDir(): "find the kernel that the image boots by GRUB: "} {
		if err := l.CheckBoot(e, dir); errkind.Variant(err) != errkind.NameUpdateGrubConfigs || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	e.Record.Bootloader = image.SystemdBoot
	if err := l.CheckBoot(e, t.TempDir()); err != nil {
		t.Errorf("an image with a UKI: %v", err)
	}
}
