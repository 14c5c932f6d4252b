package hostconfig

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

const (
	defaultESP = "/boot/efi"
	overlayDir = "/var/lib/trident-overlay" // what is written to /etc of an OS whose root is verified
)

func (s *Storage) empty() bool {
	return len(s.Disks) == 0 && s.Encryption == nil && len(s.RAID.Software) == 0 && s.RAID.SyncTimeout == nil &&
		s.ABUpdate == nil && len(s.Filesystems) == 0 && len(s.Verity) == 0 && len(s.Swap) == 0
}

// IsESP reports whether f is the EFI system partition that the firmware boots from.
func (f *Filesystem) IsESP() bool {
	switch f.OverrideESPMount {
	case ESPOverride:
		return true
	case ESPBlock:
		return false
	}
	return f.MountPoint != nil && path.Clean(f.MountPoint.Path) == defaultESP
}

// ReadOnly reports whether the options mount the file system read-only.
func (m *MountPoint) ReadOnly() bool {
	ro := false
	for o := range strings.SplitSeq(m.Options, ",") {
		switch strings.TrimSpace(o) {
		case "ro":
			ro = true
		case "rw":
			ro = false
		}
	}
	return ro
}

// mounted is the file system at where, and its index; nil when nothing is mounted there.
func (s *Storage) mounted(where string) (*Filesystem, int) {
	for i := range s.Filesystems {
		if m := s.Filesystems[i].MountPoint; m != nil && path.Clean(m.Path) == where {
			return &s.Filesystems[i], i
		}
	}
	return nil, 0
}

// holder is the file system that file is on, and its index; nil when it is on none.
func (s *Storage) holder(file string) (*Filesystem, int) {
	var best *Filesystem
	index, length := 0, 0
	for i := range s.Filesystems {
		m := s.Filesystems[i].MountPoint
		if m == nil {
			continue
		}
		if dir := path.Clean(m.Path); len(dir) > length && isUnder(file, dir) {
			best, index, length = &s.Filesystems[i], i, len(dir)
		}
	}
	return best, index
}

func isUnder(file, dir string) bool {
	file = path.Clean(file)
	return dir == "/" && isAbs(file) || file == dir || strings.HasPrefix(file, dir+"/")
}

func isAbs(p string) bool         { return strings.HasPrefix(p, "/") }
func extension(p string) string   { return path.Ext(path.Base(p)) }
func filesystemAt(i int) string   { return fmt.Sprintf("storage.filesystems[%d]", i) }
func (s *Storage) hasPairs() bool { return s.ABUpdate != nil && len(s.ABUpdate.VolumePairs) > 0 }

func (s *Storage) isPair(id string) bool {
	return s.ABUpdate != nil && slices.ContainsFunc(s.ABUpdate.VolumePairs, func(p VolumePair) bool { return p.ID == id })
}

func (s *Storage) verityOf(id string) *Verity {
	for i := range s.Verity {
		if s.Verity[i].ID == id {
			return &s.Verity[i]
		}
	}
	return nil
}

// encryption checks what the rules of storage do not know of.
func (c *checker) encryption() {
	e := c.spec.Storage.Encryption
	if e == nil {
		return
	}
	const at = "storage.encryption"
	if e.RecoveryKeyURL != "" {
		u, err := url.Parse(string(e.RecoveryKeyURL))
		if err != nil || u.Scheme != "file" {
			c.fault(at+".recoveryKeyUrl", "InvalidEncryptionRecoveryKeyUrlScheme", "must be a file URL")
		}
	}
	if len(e.PCRs) == 0 {
		c.fault(at+".pcrs", "UnsupportedEncryptionPcrs", "is empty, and without a register the volumes would be open to any OS")
	}
	for i, p := range e.PCRs {
		if p != 4 && p != 7 && p != 11 {
			c.fault(fmt.Sprintf("%s.pcrs[%d]", at, i), "UnsupportedEncryptionPcrs", "register %s (%d) is not supported, only 4, 7 and 11 are", p, uint8(p))
		}
	}
	if len(e.Volumes) == 0 {
		c.warn(at+".volumes", "is empty: nothing is encrypted")
	}
}

// required checks for what every OS needs.
func (c *checker) required() {
	s := &c.spec.Storage
	esp := slices.IndexFunc(s.Filesystems, func(f Filesystem) bool { return f.IsESP() })
	switch {
	case esp < 0:
		c.fault("storage.filesystems", "EspMountPointNotFound",
			"has no EFI system partition: a file system mounted at %s, or elsewhere with overrideEspMount: override", defaultESP)
	case s.Filesystems[esp].MountPoint != nil:
		c.fromImage(&s.Filesystems[esp], esp)
	}
	c.mustMount("/")
	if f, i := s.holder("/var/tmp"); f != nil && f.MountPoint.ReadOnly() {
		c.fault(filesystemAt(i)+".mountPoint.options", "VarTmpOnReadOnlyVolume", "make /var/tmp read-only, which is on this file system and must be writable")
	}
	if c.spec.Image == nil && slices.ContainsFunc(s.Filesystems, func(f Filesystem) bool { return f.Source == FromImage }) {
		c.warn("storage.filesystems", "has file systems of an image, and the document has no image")
	}
}

// mustMount checks that a file system with content is mounted at where.
func (c *checker) mustMount(where string) {
	f, i := c.spec.Storage.mounted(where)
	if f == nil {
		c.fault("storage.filesystems", "ExpectedMountPointNotFound", "has no file system mounted at %s", where)
		return
	}
	c.fromImage(f, i)
}

func (c *checker) fromImage(f *Filesystem, i int) {
	switch {
	case f.Source == FromNew && f.Type == Tmpfs:
		c.fault(filesystemAt(i)+".type", "MountPointNotBackedByImage", "is tmpfs, and what is mounted at %s must come from the image", f.MountPoint.Path)
	case f.Source == FromNew:
		c.fault(filesystemAt(i)+".source", "MountPointNotBackedByImage", "is new, and what is mounted at %s must come from the image", f.MountPoint.Path)
	}
}

// datastore checks where the state of the host is kept.
func (c *checker) datastore() {
	t, s := &c.spec.Trident, &c.spec.Storage
	if t.Disable || !isAbs(t.DatastorePath) {
		return
	}
	const at = "trident.datastorePath"
	f, _ := s.holder(t.DatastorePath)
	switch {
	case f == nil || f.DeviceID == "":
		c.fault(at, "DatastorePathNotInKnownVolume", "%s is on no device of the section storage, and would be lost", t.DatastorePath)
	case s.isPair(f.DeviceID), s.verityOf(f.DeviceID) != nil && s.isPair(s.verityOf(f.DeviceID).DataDeviceID):
		c.fault(at, "DatastorePathInABUpdateVolume", "%s is on A/B volume %q, and the next update would leave it behind: give %s a volume of its own",
			t.DatastorePath, f.DeviceID, path.Dir(t.DatastorePath))
	case f.MountPoint.ReadOnly():
		c.warn(at, "%s is on a file system that is mounted read-only at %s", t.DatastorePath, f.MountPoint.Path)
	}
}

// extensionVolumes checks that extensions are updated with the OS that they extend.
func (c *checker) extensionVolumes(g *graph) {
	s := &c.spec.Storage
	if !s.hasPairs() {
		return
	}
	root, _ := s.mounted("/")
	for _, l := range c.spec.OS.extensionLists() {
		for i, e := range l.list {
			dir := l.usual
			if e.Path != "" {
				dir = path.Dir(e.Path)
			}
			at := fmt.Sprintf("%s[%d]", l.path, i)
			if e.Path != "" {
				at += ".path"
			}
			file := dir
			if root != nil && s.verityOf(root.DeviceID) != nil && isUnder(dir, "/etc") {
				file = overlayDir // that is where what is written to /etc goes
			}
			f, _ := s.holder(file)
			switch {
			case f == nil || !s.hasPairBelow(g, f.DeviceID):
				c.fault(at, "ExtensionImageNotOnABVolume", "is placed in %s, which both slots share: it must be on an A/B volume", dir)
			case f.MountPoint.ReadOnly():
				c.fault(at, "ExtensionImageNotOnABVolume", "is placed in %s, which is read-only: it must be on a writable A/B volume", dir)
			}
		}
	}
}

// hasPairBelow reports whether a device is, or verifies, an A/B volume.
func (s *Storage) hasPairBelow(g *graph, id string) bool {
	if v := s.verityOf(id); v != nil {
		id = v.DataDeviceID
	}
	n := g.byID[id]
	return n != nil && n.kind == aPair
}
