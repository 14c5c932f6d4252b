package hostconfig

import (
	"fmt"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// maxFindings bounds the report on a document with very many faults.
const maxFindings = 1000

// checker collects the faults of a document that could be read.
type checker struct {
	spec *Spec
	at   places
	out  []Finding
}

// validate returns all faults and warnings that need no host and no image to find. The
// names of faults are upstream's; upstream stops at the first fault, validate does not. A
// value that upstream accepts and can use is at most a warning.
func validate(spec *Spec, at places) []Finding {
	c := &checker{spec: spec, at: at}
	g := c.checkGraph()
	c.checkEncryption()
	if !spec.Storage.empty() {
		c.checkRequired()
		c.checkVerity(g)
		c.checkDatastore()
		c.checkExtensionVolumes(g)
	} else {
		c.checkWithoutStorage()
	}
	c.checkTrident()
	c.checkOS()
	c.checkScripts()
	c.checkManagementOS()
	c.checkHealth()
	c.checkDisks()
	c.warnUnsupported()
	return c.out
}

// addFault adds an error; name is upstream's name of the fault.
func (c *checker) addFault(path, name, format string, args ...any) {
	if len(c.out) < maxFindings {
		c.out = append(c.out, c.at.fault(path, name, fmt.Sprintf(format, args...)))
	}
}

// addStorageFault adds an error of storage; detail is upstream's name of the fault.
func (c *checker) addStorageFault(path, detail, format string, args ...any) {
	if len(c.out) < maxFindings {
		f := c.at.fault(path, nameGraph, fmt.Sprintf(format, args...))
		f.Detail = detail
		c.out = append(c.out, f)
	}
}

func (c *checker) warn(path, format string, args ...any) {
	if len(c.out) < maxFindings {
		f := c.at.fault(path, "", fmt.Sprintf(format, args...))
		f.Severity = Warning
		c.out = append(c.out, f)
	}
}

// checkTrident checks the section trident.
func (c *checker) checkTrident() {
	t := &c.spec.Trident
	const at = "trident.datastorePath"
	if t.Disable || t.DatastorePath == "" && !c.at.gives(at) {
		return // no datastore is kept, or the default path is used
	}
	if !isAbs(t.DatastorePath) {
		c.addFault(at, "DatastorePathNotInKnownVolume", "is %q; wants an absolute path", form.Shorten(t.DatastorePath))
	}
	if extension(t.DatastorePath) != "sqlite" {
		c.addFault(at, "DatastorePathInvalidExtension", "is %q; wants a name that ends in .sqlite", form.Shorten(t.DatastorePath))
	}
}

// checkWithoutStorage checks a document without storage. If it has an image, the storage
// is that of the host or of the image. Otherwise the host was installed by other means,
// and the document must not have a setting that needs a new OS.
func (c *checker) checkWithoutStorage() {
	if c.spec.Image != nil {
		return
	}
	for _, s := range c.newOSOnly() {
		c.addFault(s, "ExpectedMountPointNotFound",
			"needs an OS to write to: storage with a file system at /, and image. A host that was installed by other means takes only what can be changed at run time")
	}
}

// newOSOnly lists the keys that only an installation or an A/B update acts on.
func (c *checker) newOSOnly() []string {
	o, m := &c.spec.OS, &c.spec.ManagementOS
	var out []string
	for _, k := range []struct {
		path string
		set  bool
	}{
		{"os.selinux.mode", o.SELinux.Mode != ""},
		{"os.users", len(o.Users) > 0},
		{"os.hostname", o.Hostname != ""},
		{"os.modules", len(o.Modules) > 0},
		{"os.services", len(o.Services.Enable)+len(o.Services.Disable) > 0},
		{"os.kernelCommandLine", len(o.KernelCommandLine.ExtraCommandLine) > 0},
		{"managementOs", m.Netplan != nil || len(m.Users) > 0},
	} {
		if k.set {
			out = append(out, k.path)
		}
	}
	for _, s := range c.spec.Scripts.all() {
		if len(s.script.RunOn) > 0 && !RunsOn(s.script.RunOn, OnRuntimeUpdate) {
			out = append(out, s.path)
		}
	}
	return out
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

// locatedScript is a script and its path in the document.
type locatedScript struct {
	path   string
	script *Script
}

func (s *Scripts) all() []locatedScript {
	var out []locatedScript
	for _, l := range []struct {
		key  string
		list []Script
	}{{"preServicing", s.PreServicing}, {"postProvision", s.PostProvision}, {"postConfigure", s.PostConfigure}} {
		for i := range l.list {
			out = append(out, locatedScript{fmt.Sprintf("scripts.%s[%d]", l.key, i), &l.list[i]})
		}
	}
	return out
}
