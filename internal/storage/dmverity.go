package storage

import (
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/slot"
)

// EtcOverlay is the folder that has the changes of /etc on a host whose root is verified and
// so read-only: the folders upper and work of an overlay.
const EtcOverlay = etcOverlay

// VerityOf returns the verity device with that id, or nil.
func VerityOf(s *hostconfig.Storage, id string) *hostconfig.Verity {
	for i := range s.Verity {
		if s.Verity[i].ID == id {
			return &s.Verity[i]
		}
	}
	return nil
}

// DataID returns the id of the device that has the bytes of the file system on the device
// id: for a verity device its data device, else id.
func DataID(s *hostconfig.Storage, id string) string {
	if v := VerityOf(s, id); v != nil {
		return v.DataDeviceID
	}
	return id
}

// RootVerity returns the verity device of the root file system, or nil.
func RootVerity(s *hostconfig.Storage) *hostconfig.Verity {
	for _, f := range s.Filesystems {
		if f.MountPoint != nil && path.Clean(f.MountPoint.Path) == "/" {
			return VerityOf(s, f.DeviceID)
		}
	}
	return nil
}

// VerityArguments returns the arguments with which systemd-veritysetup-generator(8) opens
// the device v in the initrd of the OS in a slot. paths has the devices of the partitions,
// by id. The caller has to drop arguments of the same names from those of the image.
//
// VerityArguments also returns the argument that mounts the opened device: root= or
// mount.usr=. For a verified root it returns rd.overlayfs=, so that the initrd mounts the
// overlay of EtcOverlay on /etc. That argument is one of a dracut module of Azure Linux
// (SPECS/dracut/20overlayfs): the lower folder in the root, the upper and the work folder in
// the file system of a device, and the device. The module mounts the overlay read-only.
func VerityArguments(s *hostconfig.Storage, paths map[string]string, in slot.Slot, v *hostconfig.Verity, rootHash string) ([]string, error) {
	data, err := Device(s, paths, in, v.DataDeviceID)
	if err != nil {
		return nil, err
	}
	hash, err := Device(s, paths, in, v.HashDeviceID)
	if err != nil {
		return nil, err
	}
	names, ok := VerityArgumentsOf(v.Name)
	if !ok {
		return nil, errkind.Errorf(errkind.Invalid, "verity device %q has the name %q: the initrd opens only root and usr", v.ID, v.Name)
	}
	out := []string{
		"rd.systemd.verity=1",
		names.RootHash + rootHash, names.Data + data, names.Hash + hash,
		names.Options + CorruptionArgument(v.CorruptionOption),
		names.Mount + mappedPath(v.Name),
	}
	if v.Name != "root" {
		return out, nil
	}
	id, folder := OverlayVolume(s)
	volume, err := Device(s, paths, in, id)
	if err != nil {
		return nil, err
	}
	return append(out, "rd.overlayfs=/etc,"+folder+"/upper,"+folder+"/work,"+volume), nil
}

// OverlayVolume returns the id of the device whose file system has EtcOverlay, and where in
// that file system it is: "/etc" if the file system is mounted on /var/lib/trident-overlay.
func OverlayVolume(s *hostconfig.Storage) (id, folder string) {
	for _, f := range MountOrder(s) {
		m := path.Clean(f.MountPoint.Path)
		if below, ok := strings.CutPrefix(EtcOverlay, strings.TrimSuffix(m, "/")+"/"); ok {
			id, folder = f.DeviceID, "/"+below
		}
	}
	return id, folder
}

// VerityArgumentNames are the names of the arguments of one verity device, with their "=".
type VerityArgumentNames struct{ RootHash, Data, Hash, Options, Mount string }

// VerityArgumentsOf returns the names of the arguments of the device that the initrd opens
// as /dev/mapper/name; false unless name is root or usr.
func VerityArgumentsOf(name string) (VerityArgumentNames, bool) {
	prefix := "systemd.verity_" + name + "_"
	out := VerityArgumentNames{RootHash: name + "hash=", Data: prefix + "data=", Hash: prefix + "hash=", Options: prefix + "options="}
	switch name {
	case "root":
		out.RootHash, out.Mount = "roothash=", "root="
	case "usr":
		out.Mount = "mount.usr="
	default:
		return VerityArgumentNames{}, false
	}
	return out, true
}

// CorruptionArgument returns the option of veritysetup(8) for what the kernel does when data
// does not match its hash: "" for the default, an error of the read.
func CorruptionArgument(o hostconfig.CorruptionOption) string {
	switch o {
	case hostconfig.CorruptionIgnore:
		return "ignore-corruption"
	case hostconfig.CorruptionPanic:
		return "panic-on-corruption"
	case hostconfig.CorruptionRestart:
		return "restart-on-corruption"
	}
	return ""
}
