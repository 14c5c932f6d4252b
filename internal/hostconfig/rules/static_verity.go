package rules

import (
	"fmt"
	"path"

	"github.com/trident-project/trident/internal/hostconfig"
)

// checkVerity checks the conditions for a verified root or /usr.
func (c *checker) checkVerity(g *graph) {
	s := layout{&c.spec.Storage}
	if len(s.Verity) > 1 {
		c.addFault("storage.verity[1]", "UnsupportedVerityDevices", "is one verity device too many: there may be one, for / or /usr")
	}
	for i := range s.Verity {
		v := &s.Verity[i]
		at := fmt.Sprintf("storage.verity[%d]", i)
		if g.byID[v.ID] == nil || g.byID[v.ID].kind != aVerity {
			continue // its id is at fault
		}
		f, fi := s.on(v.ID)
		if f == nil {
			c.addFault(at, "UnsupportedVerityDevices", "has no file system on it")
			continue
		}
		if f.MountPoint == nil {
			c.addFault(filesystemAt(fi), "VerityFilesystemWithoutMountPoint", "is on verity device %q, and has no mountPoint", v.ID)
			continue
		}
		if !f.MountPoint.ReadOnly() {
			c.addFault(filesystemAt(fi)+".mountPoint", "VerityDeviceMountedReadWrite", "is on verity device %q, and must be mounted with the option ro", v.ID)
		}
		switch where := path.Clean(f.MountPoint.Path); where {
		case "/":
			c.checkVerityName(at, v, "root", where)
			c.checkRootVerity()
		case "/usr":
			c.checkVerityName(at, v, "usr", where)
		default:
			c.addFault(at, "UnsupportedVerityDevices", "is mounted at %s, and only / and /usr can be verified", where)
		}
	}
}

func (s layout) on(device string) (*hostconfig.Filesystem, int) {
	for i := range s.Filesystems {
		if s.Filesystems[i].DeviceID == device {
			return &s.Filesystems[i], i
		}
	}
	return nil, 0
}

// checkVerityName checks the name of a verity device: the initrd finds the device by it.
func (c *checker) checkVerityName(at string, v *hostconfig.Verity, want, where string) {
	if v.Name != want {
		c.addFault(at+".name", "VerityDeviceNameInvalid", "is %q, and must be %q for what is mounted at %s", v.Name, want, where)
	}
}

// checkRootVerity checks that writable folders and /boot are not on the read-only root.
func (c *checker) checkRootVerity() {
	s := layout{&c.spec.Storage}
	// /boot may be the EFI system partition, which has the kernel if the image has a UKI.
	c.mustMount("/boot")
	if c.spec.InternalParams["selfUpgradeTrident"] == true {
		c.addFault("internalParams.selfUpgradeTrident", "SelfUpgradeOnReadOnlyRootVerityFs", "copies Trident into a root that is verified, and so read-only")
	}
	if m := c.spec.OS.SELinux.Mode; m != "" && m != hostconfig.SELinuxDisabled {
		c.warn("os.selinux.mode", "is %s, which works with a verified root only when the image is a UKI", m)
	}
	f, i := s.holder(overlayDir) // not nil: at least the root
	at := filesystemAt(i)
	switch {
	case f.DeviceID == "":
		c.addFault(at, "MountPointNotBackedByBlockDevice", "has %s on it, which must be on a device", overlayDir)
	case s.ABUpdate != nil && !s.isPair(f.DeviceID):
		c.addFault(at, "MountPointNotBackedByAbUpdateVolumePair", "has %s on it, which must be on a writable A/B volume: give it one of its own", overlayDir)
	case f.MountPoint.ReadOnly():
		c.addFault(at+".mountPoint", "OverlayOnReadOnlyVolume", "is read-only, and has %s on it, which must be writable: give it a volume of its own", overlayDir)
	case s.verityOf(f.DeviceID) != nil:
		c.addFault(at, "OverlayOnVerityProtectedVolume", "is verified, and has %s on it, which must be writable: give it a volume of its own", overlayDir)
	}
}
