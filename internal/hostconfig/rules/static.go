// Package rules says which Host Configurations a host can have. It finds all faults that
// concern several values of a document together, or that need knowledge of an OS: the
// storage graph, mount points, extensions, names of users and units.
//
// Check is the argument of hostconfig.Parse for a document that a person wrote. A recorded
// document is not checked again, because rules change and hosts must stay serviceable. An
// installation, or an update into the other slot, refuses the faults of SetupFaults,
// OSNameFaults and UserNameFaults, which Check accepts.
package rules

import (
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// maxFindings bounds the report on a document with very many faults.
const maxFindings = 1000

// checker collects the faults of a document that could be read.
type checker struct {
	config *hostconfig.Config
	spec   *hostconfig.Spec
	out    hostconfig.Report
}

// Check finds all faults and warnings of c that need no host and no image to find. The
// names of faults are upstream's; upstream stops at the first fault, Check does not. A
// value that upstream accepts and can use is at most a warning.
//
// If c could be read only in part, because of faults, Check only finds the warnings about
// names that are outside of the faults. Check is for hostconfig.Parse.
func Check(c *hostconfig.Config, faults hostconfig.Report) hostconfig.Report {
	k := &checker{config: c, spec: c.Spec()}
	if faults.Err() != nil {
		return k.checkNames(faults)
	}
	g := k.checkGraph()
	k.checkEncryption()
	if !k.spec.Storage.Empty() {
		k.checkRequired()
		k.checkVerity(g)
		k.checkDatastore()
		k.checkExtensionVolumes(g)
	} else {
		k.checkWithoutStorage()
	}
	k.checkTrident()
	k.checkOS()
	k.checkScripts()
	k.checkManagementOS()
	k.checkHealth()
	k.checkDisks()
	k.warnUnsupported()
	return k.out
}

// addFault adds an error; name is upstream's name of the fault.
func (c *checker) addFault(path, name, format string, args ...any) {
	c.add(c.config.Fault(path, name, fmt.Sprintf(format, args...)))
}

// addStorageFault adds an error of storage; detail is upstream's name of the fault.
func (c *checker) addStorageFault(path, detail, format string, args ...any) {
	f := c.config.Fault(path, hostconfig.NameGraph, fmt.Sprintf(format, args...))
	f.Detail = detail
	c.add(f)
}

func (c *checker) warn(path, format string, args ...any) {
	f := c.config.Fault(path, "", fmt.Sprintf(format, args...))
	f.Severity = hostconfig.Warning
	c.add(f)
}

func (c *checker) add(f hostconfig.Finding) {
	if len(c.out) < maxFindings {
		c.out = append(c.out, f)
	}
}

// checkTrident checks the section trident.
func (c *checker) checkTrident() {
	t := &c.spec.Trident
	const at = "trident.datastorePath"
	if t.Disable || t.DatastorePath == "" && !c.config.Gives(at) {
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
	for at, s := range c.spec.Scripts.All() {
		if len(s.RunOn) > 0 && !hostconfig.RunsOn(s.RunOn, hostconfig.OnRuntimeUpdate) {
			out = append(out, at)
		}
	}
	return out
}

// Effective returns the meaning of the document new for a host with the configuration
// old (nil for none): if new has an image and no storage, it takes the storage of old.
// Effective then checks the rules about storage together with other sections; the Config
// is nil if the Report has an Error. It does not report faults in storage itself, which
// was accepted before.
func Effective(old, new *hostconfig.Config) (*hostconfig.Config, hostconfig.Report) {
	if old == nil || new.Spec().Image == nil || !new.Spec().Storage.Empty() || old.Spec().Storage.Empty() {
		return new, nil
	}
	c := new.Amend(func(s *hostconfig.Spec) { s.Storage = old.Spec().Storage })
	report := slices.DeleteFunc(Check(c, nil), func(f hostconfig.Finding) bool { return form.Within(f.Path, "storage") })
	report.Sort()
	if report.Err() != nil {
		return nil, report
	}
	return c, report
}
