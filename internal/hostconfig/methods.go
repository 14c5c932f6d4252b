package hostconfig

import (
	"fmt"
	"iter"
	"path"
	"strings"
)

// defaultESP is where the EFI system partition is mounted if no file system is marked as it.
const defaultESP = "/boot/efi"

// Empty reports whether the document has no storage.
func (s *Storage) Empty() bool {
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

// ReadOnly reports whether m is mounted read-only: the last of ro and rw counts.
func (m *MountPoint) ReadOnly() bool {
	ro := false
	for o := range strings.SplitSeq(m.Options, ",") {
		switch o { // " ro" is not ro: mount(8) does not trim blanks
		case "ro":
			ro = true
		case "rw":
			ro = false
		}
	}
	return ro
}

// RunsOn reports whether a script or check with this list runs on servicing t.
func RunsOn(list []ServicingType, t ServicingType) bool {
	for _, s := range list {
		if s == t || s == OnAll {
			return true
		}
	}
	return false
}

// All returns all scripts, in the order of the document, by their paths, as in
// scripts.preServicing[0].
func (s *Scripts) All() iter.Seq2[string, *Script] {
	return func(yield func(string, *Script) bool) {
		for _, l := range []struct {
			key  string
			list []Script
		}{{"preServicing", s.PreServicing}, {"postProvision", s.PostProvision}, {"postConfigure", s.PostConfigure}} {
			for i := range l.list {
				if !yield(fmt.Sprintf("scripts.%s[%d]", l.key, i), &l.list[i]) {
					return
				}
			}
		}
	}
}
