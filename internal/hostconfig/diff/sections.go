package diff

import (
	"fmt"
	"net/url"
	"path"
	"reflect"
	"slices"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// differ collects the Change between old and new. It compares them with
// reflect.DeepEqual: a document never has an empty list or mapping, which is nil.
type differ struct {
	Change
	old, new *hostconfig.Spec
}

func (d *differ) addReason(path string, k Kind, format string, args ...any) {
	d.Kind = max(d.Kind, k)
	d.Reasons = append(d.Reasons, Reason{path, fmt.Sprintf(format, args...), k})
}

// compareOther adds a reason for a changed section that needs no servicing by itself.
func (d *differ) compareOther(path string, old, new any) {
	switch {
	case reflect.DeepEqual(old, new):
	case path == "storage" && d.new.Storage.Empty() && d.new.Image != nil: // taken from old
	case path == "storage":
		d.addReason(path, KindNone, "is different, and no update changes storage")
	default:
		d.addReason(path, KindNone, "is different, which needs no update by itself")
	}
}

func (d *differ) compareImage() {
	old, new := d.old.Image, d.new.Image
	switch {
	case new == nil:
	case old == nil:
		d.addReason("image", KindABUpdate, "is new: the host has none yet")
	case new.SHA384 != hostconfig.HashIgnored && old.SHA384 == hostconfig.HashIgnored:
		d.addReason("image.sha384", KindABUpdate, "is given, and nobody knows whether the image of the host has it")
	case new.SHA384 != hostconfig.HashIgnored && old.SHA384 != new.SHA384:
		d.addReason("image.sha384", KindABUpdate, "is of another image")
	case new.SHA384 == hostconfig.HashIgnored && old.URL != new.URL:
		d.addReason("image.url", KindABUpdate, "is different, and with an ignored hash another URL is another image")
	case old.URL != new.URL:
		d.addReason("image.url", KindNone, "is different, and the image is the same")
	}
}

// compareScripts adds a reason for each hook that is new or different: the update in its
// runOn. A removed hook needs no servicing.
func (d *differ) compareScripts() {
	unpaired := map[string][]*hostconfig.Script{}
	for at, s := range d.old.Scripts.All() {
		section := form.Parent(at)
		unpaired[section] = append(unpaired[section], s)
	}
next:
	for at, s := range d.new.Scripts.All() {
		section := form.Parent(at)
		for i, o := range unpaired[section] {
			if reflect.DeepEqual(o, s) {
				unpaired[section] = slices.Delete(unpaired[section], i, i+1)
				continue next
			}
		}
		switch on := s.RunOn; {
		case hostconfig.RunsOn(on, hostconfig.OnABUpdate):
			d.addReason(at, KindABUpdate, "is new or different, and runs on an A/B update")
		case hostconfig.RunsOn(on, hostconfig.OnRuntimeUpdate):
			d.addReason(at, KindRuntimeUpdate, "is new or different, and runs on an update at run time")
		default:
			d.addReason(at, KindNone, "is new or different, and runs on no update")
		}
	}
	for _, section := range []string{"scripts.preServicing", "scripts.postProvision", "scripts.postConfigure"} {
		if n := len(unpaired[section]); n > 0 {
			d.addReason(section, KindNone, "has lost, or has otherwise, %d", n)
		}
	}
}

func (d *differ) compareOS() {
	old, new := &d.old.OS, &d.new.OS
	if !reflect.DeepEqual(old.Netplan, new.Netplan) {
		d.Netplan = true
		d.addReason("os.netplan", KindRuntimeUpdate, "%s", added(old.Netplan == nil, new.Netplan == nil))
	}
	d.compareInstalled("os.selinux.mode", old.SELinux.Mode, new.SELinux.Mode)
	d.compareInstalled("os.users", old.Users, new.Users)
	d.compareFiles(old.AdditionalFiles, new.AdditionalFiles)
	d.compareInstalled("os.hostname", old.Hostname, new.Hostname)
	d.compareInstalled("os.modules", old.Modules, new.Modules)
	d.compareInstalled("os.services", old.Services, new.Services)
	d.compareInstalled("os.kernelCommandLine", old.KernelCommandLine, new.KernelCommandLine)
	d.Sysexts = d.compareExtensions("os.sysexts", old.Sysexts, new.Sysexts)
	d.Confexts = d.compareExtensions("os.confexts", old.Confexts, new.Confexts)
	if old.UEFIFallback != new.UEFIFallback {
		d.UEFIFallback = true
		d.addReason("os.uefiFallback", KindRuntimeUpdate, "is %s, and was %s", new.UEFIFallback, old.UEFIFallback)
	}
}

// compareInstalled adds a reason for a changed setting that Trident writes only into an
// OS that is not running yet.
func (d *differ) compareInstalled(path string, old, new any) {
	if !reflect.DeepEqual(old, new) {
		d.addReason(path, KindABUpdate, "%s, and is set up in an OS that does not run yet",
			added(reflect.ValueOf(old).IsZero(), reflect.ValueOf(new).IsZero()))
	}
}

func added(oldNone, newNone bool) string {
	switch {
	case oldNone:
		return "is new"
	case newNone:
		return "is gone"
	}
	return "is different"
}

// withoutSecrets returns a URL without user, password, query and fragment.
func withoutSecrets(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(not a URL)"
	}
	u.User, u.RawQuery, u.Fragment, u.ForceQuery = nil, "", "", false
	return u.String()
}

// label returns the name of an extension for messages: its path, or the file name of its URL.
func label(e *hostconfig.Extension) string {
	if e.Path != "" {
		return e.Path
	}
	return path.Base(withoutSecrets(string(e.URL)))
}

// meaning returns s with all defaults filled in, so that storage sections which mean the
// same are equal: a record may have defaults that the document of the user left out.
func meaning(s hostconfig.Storage) hostconfig.Storage {
	s.Filesystems = slices.Clone(s.Filesystems)
	for i := range s.Filesystems {
		f := &s.Filesystems[i]
		esp := f.IsESP()
		f.OverrideESPMount = hostconfig.ESPDefault
		switch {
		case f.Type != "":
		case f.Source == hostconfig.FromNew:
			f.Type = hostconfig.Ext4
		case f.Source == hostconfig.FromAdopted:
			f.Type = hostconfig.Auto
		}
		if f.MountPoint != nil {
			m := *f.MountPoint
			m.Path = path.Clean(m.Path)
			f.MountPoint = &m
			if esp != f.IsESP() {
				f.OverrideESPMount = map[bool]hostconfig.ESPMount{true: hostconfig.ESPOverride, false: hostconfig.ESPBlock}[esp]
			}
		}
	}
	return s
}
