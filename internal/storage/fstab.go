package storage

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/slot"
)

// MountOrder returns the file systems with a mount point. A file system comes after the
// one that has its mount point. Unmount them in the reverse order.
func MountOrder(s *hostconfig.Storage) []hostconfig.Filesystem {
	var out []hostconfig.Filesystem
	for _, f := range s.Filesystems {
		if f.MountPoint != nil {
			out = append(out, f)
		}
	}
	depth := func(f hostconfig.Filesystem) int {
		return strings.Count(strings.TrimSuffix(path.Clean(f.MountPoint.Path), "/"), "/")
	}
	slices.SortStableFunc(out, func(a, b hostconfig.Filesystem) int {
		return cmp.Or(cmp.Compare(depth(a), depth(b)), cmp.Compare(path.Clean(a.MountPoint.Path), path.Clean(b.MountPoint.Path)))
	})
	return out
}

// madeByTrident is the first line of the files in /etc that replace those of the image.
const madeByTrident = "# Made by Trident from the Host Configuration, and made again by the next servicing.\n"

// etcOverlay has the changes of /etc on a host whose root is verified and so read-only.
const etcOverlay = "/var/lib/trident-overlay/etc"

// Fstab returns the whole /etc/fstab (fstab(5)) of the OS in a slot; it replaces the one
// of the image. paths has the devices of the partitions, by id.
//
// A file system on a verity device is only a comment in it, because systemd's verity
// generator mounts that file system. With a verified root, /etc is an overlay.
func Fstab(s *hostconfig.Storage, paths map[string]string, in slot.Slot) (string, error) {
	text, err := fstab(s, paths, in)
	if err != nil {
		return "", errkind.WithName(fmt.Errorf("make fstab: %w", err), errkind.NameGenerateFstab)
	}
	return text, nil
}

func fstab(s *hostconfig.Storage, paths map[string]string, in slot.Slot) (string, error) {
	var b strings.Builder
	b.WriteString(madeByTrident)
	rootVerity := false
	for _, f := range MountOrder(s) {
		at := path.Clean(f.MountPoint.Path)
		device, pass := "tmpfs", 0
		if f.DeviceID != "" {
			var err error
			if device, err = Device(s, paths, in, f.DeviceID); err != nil {
				return "", err
			}
			if pass = 2; at == "/" {
				pass = 1
			}
		}
		if slices.ContainsFunc(s.Verity, func(v hostconfig.Verity) bool { return v.ID == f.DeviceID }) {
			rootVerity = rootVerity || at == "/"
			pass = 0
			b.WriteString("# ")
		}
		line(&b, device, at, fstabType(f), cmp.Or(f.MountPoint.Options, "defaults"), pass)
	}
	if rootVerity {
		line(&b, "overlay", "/etc", "overlay", "lowerdir=/etc,upperdir="+etcOverlay+"/upper,workdir="+etcOverlay+"/work", 0)
	}
	for _, sw := range s.Swap {
		device, err := Device(s, paths, in, sw.DeviceID)
		if err != nil {
			return "", err
		}
		line(&b, device, "none", swapType, "sw", 0)
	}
	return b.String(), nil
}

// fstabType returns the type of f for mount(8). It is auto for a file system from an image
// or an adopted one without a type.
func fstabType(f hostconfig.Filesystem) string {
	switch {
	case f.Type != "":
		return string(f.Type)
	case f.Source == hostconfig.FromNew:
		return string(hostconfig.Ext4)
	}
	return string(hostconfig.Auto)
}

func line(b *strings.Builder, device, at, typ, options string, pass int) {
	// What would end a field, or start a comment, as getmntent(3) reads it.
	esc := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`, "#", `\043`).Replace
	fmt.Fprintf(b, "%s %s %s %s 0 %d\n", esc(device), esc(at), esc(typ), esc(options), pass)
}
