package rules

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

const overlayDir = "/var/lib/trident-overlay" // the upper layer of /etc in an OS with a verified root

// layout is a section storage, with answers to what is where.
type layout struct{ *hostconfig.Storage }

// inMemory reports whether f is a new file system that has no device.
func inMemory(f *hostconfig.Filesystem) bool {
	return f.Source == hostconfig.FromNew && (f.Type == hostconfig.Tmpfs || f.Type == hostconfig.Overlay)
}

// mounted returns the file system that is mounted at where, and its index; nil if there is none.
func (s layout) mounted(where string) (*hostconfig.Filesystem, int) {
	for i := range s.Filesystems {
		if m := s.Filesystems[i].MountPoint; m != nil && path.Clean(m.Path) == where {
			return &s.Filesystems[i], i
		}
	}
	return nil, 0
}

// holder returns the file system that file is on, and its index; nil if there is none.
func (s layout) holder(file string) (*hostconfig.Filesystem, int) {
	var best *hostconfig.Filesystem
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

func isAbs(p string) bool       { return strings.HasPrefix(p, "/") }
func filesystemAt(i int) string { return fmt.Sprintf("storage.filesystems[%d]", i) }

func (s layout) isPair(id string) bool {
	return s.ABUpdate != nil && slices.ContainsFunc(s.ABUpdate.VolumePairs, func(p hostconfig.VolumePair) bool { return p.ID == id })
}

func (s layout) verityOf(id string) *hostconfig.Verity {
	for i := range s.Verity {
		if s.Verity[i].ID == id {
			return &s.Verity[i]
		}
	}
	return nil
}

// checkEncryption checks the settings of encryption that rules.go does not cover.
func (c *checker) checkEncryption() {
	e := c.spec.Storage.Encryption
	if e == nil {
		return
	}
	const at = "storage.encryption"
	if e.RecoveryKeyURL != "" {
		if !strings.HasPrefix(string(e.RecoveryKeyURL), "file:") {
			c.addFault(at+".recoveryKeyUrl", "InvalidEncryptionRecoveryKeyUrlScheme", "is not a file URL; wants one, as in file:///root/recovery.key")
		}
	}
	if len(e.PCRs) == 0 {
		c.warn(at+".pcrs", "is empty, and without a register the volumes are open to any OS that runs on this machine")
	}
	for i, p := range e.PCRs {
		if p != 4 && p != 7 && p != 11 {
			c.addFault(fmt.Sprintf("%s.pcrs[%d]", at, i), "UnsupportedEncryptionPcrs", "register %s (%d) is not supported, only 4, 7 and 11 are", p, uint8(p))
		}
	}
	if len(e.Volumes) == 0 {
		c.warn(at+".volumes", "is empty: nothing is encrypted")
	}
}

// checkRequired checks that the file systems exist that every OS needs.
func (c *checker) checkRequired() {
	s := layout{&c.spec.Storage}
	esp := slices.IndexFunc(s.Filesystems, func(f hostconfig.Filesystem) bool { return f.IsESP() })
	switch {
	case esp < 0:
		c.addFault("storage.filesystems", "EspMountPointNotFound",
			"has no EFI system partition: a file system mounted at /boot/efi, or elsewhere with overrideEspMount: override")
	case s.Filesystems[esp].MountPoint != nil:
		c.checkFromImage(&s.Filesystems[esp], esp)
	}
	c.mustMount("/")
	if f, i := s.holder("/var/tmp"); f == nil {
		c.addFault("storage.filesystems", "ExpectedMountPointNotFound", "has no file system that /var/tmp is on")
	} else if f.MountPoint.ReadOnly() {
		c.addFault(filesystemAt(i)+".mountPoint.options", "VarTmpOnReadOnlyVolume", "is %q, which makes /var/tmp read-only: it is on this file system and must be writable", f.MountPoint.Options)
	}
	if c.spec.Image == nil && slices.ContainsFunc(s.Filesystems, func(f hostconfig.Filesystem) bool { return f.Source == hostconfig.FromImage }) {
		c.warn("storage.filesystems", "has file systems of an image, and the document has no image")
	}
}

// mustMount checks that a file system with content is mounted at where.
func (c *checker) mustMount(where string) {
	f, i := layout{&c.spec.Storage}.mounted(where)
	if f == nil {
		c.addFault("storage.filesystems", "ExpectedMountPointNotFound", "has no file system mounted at %s", where)
		return
	}
	c.checkFromImage(f, i)
}

func (c *checker) checkFromImage(f *hostconfig.Filesystem, i int) {
	switch {
	case inMemory(f):
		c.addFault(filesystemAt(i)+".type", "MountPointNotBackedByImage", "is %s, and what is mounted at %s must come from the image", f.Type, f.MountPoint.Path)
	case f.Source == hostconfig.FromNew:
		c.addFault(filesystemAt(i)+".source", "MountPointNotBackedByImage", "is new, and what is mounted at %s must come from the image", f.MountPoint.Path)
	}
}

// checkDatastore checks that the datastore is on a volume that updates keep.
func (c *checker) checkDatastore() {
	t, s := &c.spec.Trident, layout{&c.spec.Storage}
	if t.Disable || !isAbs(t.DatastorePath) {
		return
	}
	const at = "trident.datastorePath"
	switch name, message := s.datastoreFault(t.DatastorePath); {
	case message == "":
	case name == "":
		c.warn(at, "%s", message)
	default:
		c.addFault(at, name, "%s", message)
	}
}

// datastoreFault says why the state of the host cannot be kept in file: upstream's name of
// the fault, or "" if upstream accepts it, and a message. The message is "" if it can.
func (s layout) datastoreFault(file string) (name, message string) {
	f, _ := s.holder(file)
	short := form.Shorten(file)
	switch {
	case f == nil || f.DeviceID == "":
		return "DatastorePathNotInKnownVolume", short + " is on no device of the section storage, and would be lost"
	case s.isPair(f.DeviceID):
		return "DatastorePathInABUpdateVolume", fmt.Sprintf("%s is on A/B volume %q, and the next update would leave it behind: give %s a volume of its own",
			short, form.Shorten(f.DeviceID), form.Shorten(path.Dir(file)))
	case s.verityOf(f.DeviceID) != nil, f.MountPoint.ReadOnly():
		return "", fmt.Sprintf("%s is on the file system at %s, which is read-only: the state of the host cannot be kept there", short, f.MountPoint.Path)
	}
	return "", ""
}

// checkExtensionVolumes checks that extensions are updated with the OS that they extend.
func (c *checker) checkExtensionVolumes(g *graph) {
	s := layout{&c.spec.Storage}
	if s.ABUpdate == nil {
		return
	}
	for _, l := range extensionLists(&c.spec.OS) {
		for at, file := range l.places() {
			f, _ := s.holder(file)
			switch {
			case f == nil || !g.isOn(f.DeviceID, aPair):
				c.addFault(at, "ExtensionImageNotOnABVolume", "is placed at %s, which both slots share: it must be on an A/B volume", form.Shorten(file))
			case f.MountPoint.ReadOnly() && !(isUnder(file, "/etc") && s.verityOf(f.DeviceID) != nil): // the overlay makes /etc writable
				c.warn(at, "is placed at %s, which is on a file system that is mounted read-only at %s", form.Shorten(file), f.MountPoint.Path)
			}
		}
	}
}

// isOn reports whether the device with this id, or a device below it, is of that kind.
func (g *graph) isOn(id string, kind deviceKind) bool {
	seen := map[string]bool{}
	var reaches func(id string) bool
	reaches = func(id string) bool {
		n := g.byID[id]
		if n == nil || seen[id] {
			return false
		}
		seen[id] = true
		return n.kind == kind || slices.ContainsFunc(n.refs, func(r ref) bool { return reaches(r.id) })
	}
	return reaches(id)
}
