package rules

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// NameFault is a value that no OS can use, such as an impossible name of a user, unit or
// module. Upstream's validation accepts such values, and upstream fails when it sets up
// the OS. So Parse only warns of them, and osconfig fails with them.
type NameFault struct {
	Path    string // of the value in the document
	Message string // "-r" is not the name of a user: ...
}

type nameFaults []NameFault

func (f *nameFaults) add(path, format string, args ...any) {
	*f = append(*f, NameFault{path, fmt.Sprintf(format, args...)})
}

// warnNames warns of values that no OS can have.
func (c *checker) warnNames(o *hostconfig.OS) {
	for _, f := range slices.Concat(OSNameFaults(o), UserNameFaults("managementOs.users", c.spec.ManagementOS.Users)) {
		c.warn(f.Path, "%s", f.Message)
	}
}

// checkNames returns the warnings about names in a document that could be read only in part; it skips the paths of faults.
func (c *checker) checkNames(faults hostconfig.Report) hostconfig.Report {
	c.warnNames(&c.spec.OS)
	for at, s := range c.spec.Scripts.All() {
		c.checkEnvironment(at, s)
	}
	return slices.DeleteFunc(c.out, func(f hostconfig.Finding) bool {
		return slices.ContainsFunc(faults, func(g hostconfig.Finding) bool {
			return g.Severity == hostconfig.Error && (form.Within(f.Path, g.Path) || form.Within(g.Path, f.Path) || g.Path == "")
		})
	})
}

// OSNameFaults finds the values of o that no OS can have, in the order of the document.
func OSNameFaults(o *hostconfig.OS) []NameFault {
	faults := nameFaults(UserNameFaults("os.users", o.Users))
	if o.Hostname != "" && !isHostname(o.Hostname) {
		faults.add("os.hostname", "%q is not the name of a host: wants up to 64 letters, digits, hyphens and dots, with a letter or digit at both ends of each part", form.Shorten(o.Hostname))
	}
	faults.modules(o.Modules)
	faults.services(&o.Services)
	return faults
}

// healthNameFaults finds the names of units in h that are not names of units for systemd:
// a check of one never passes.
func healthNameFaults(h *hostconfig.Health) []NameFault {
	var faults nameFaults
	for i, check := range h.Checks {
		if check.Systemd == nil {
			continue
		}
		for j, unit := range check.Systemd.SystemdServices {
			if !isUnit(unit) {
				faults.add(fmt.Sprintf("health.checks[%d].systemdServices[%d]", i, j), "%q is not the name of a unit", form.Shorten(unit))
			}
		}
	}
	return faults
}

// UserNameFaults finds the values of users that no OS can have; at is the path of the list.
func UserNameFaults(at string, users []hostconfig.User) []NameFault {
	var faults nameFaults
	ids := map[hostconfig.UserID]int{}
	for i, u := range users {
		at := fmt.Sprintf("%s[%d].", at, i)
		if !isAccountName(u.Name) {
			faults.add(at+"name", "%q is not the name of a user: wants up to 32 letters, digits, dots, hyphens and underscores, and no hyphen first", form.Shorten(u.Name))
		}
		if u.UID != nil {
			if j, twice := ids[*u.UID]; twice {
				faults.add(at+"uid", "%d is that of %s[%d] already", *u.UID, strings.TrimSuffix(at[:strings.LastIndexByte(at, '[')], "."), j)
			} else {
				ids[*u.UID] = i
			}
			if *u.UID < 0 || *u.UID >= 1<<32-1 || *u.UID == 0xffff { // (uid_t) -1, of 32 and of 16 bits
				faults.add(at+"uid", "%d is not the id of a user: wants a number from 0 to 4294967294, but not 65535", *u.UID)
			}
		}
		if h := u.HomeDirectory; h != "" && (!path.IsAbs(h) || !isField(h)) {
			faults.add(at+"homeDirectory", "%q is not an absolute path, or has a colon or a line break", form.Shorten(h))
		}
		if !isField(u.StartupCommand) {
			faults.add(at+"startupCommand", "%q has a colon or a line break", form.Shorten(u.StartupCommand))
		}
		if u.PrimaryGroup != "" && !isGroup(u.PrimaryGroup) {
			faults.add(at+"primaryGroup", "%q is not the name of a group", form.Shorten(u.PrimaryGroup))
		}
		for j, g := range u.SecondaryGroups {
			if !isGroup(g) {
				faults.add(fmt.Sprintf("%ssecondaryGroups[%d]", at, j), "%q is not the name of a group", form.Shorten(g))
			}
		}
		for j, key := range u.SSHPublicKeys {
			if key = strings.TrimSpace(key); key == "" || strings.ContainsFunc(key, isControl) {
				faults.add(fmt.Sprintf("%ssshPublicKeys[%d]", at, j), "is not one line of text")
			}
		}
	}
	return faults
}

func (f *nameFaults) modules(modules []hostconfig.Module) {
	first := map[string]int{}
	for i, m := range modules {
		at := fmt.Sprintf("os.modules[%d]", i)
		if !consistsOf(m.Name, 1, 64, form.Letters+form.Digits+"_-") {
			f.add(at, "%q is not the name of a module", form.Shorten(m.Name))
		}
		name := strings.ReplaceAll(m.Name, "-", "_") // to the kernel they are one
		if j, twice := first[name]; twice {
			f.add(at, "%q is os.modules[%d] already", form.Shorten(m.Name), j)
		} else {
			first[name] = i
		}
		if m.LoadMode == hostconfig.LoadDisable && len(m.Options) > 0 {
			f.add(at, "%q has options, which have no effect on a module that is disabled", form.Shorten(m.Name))
		}
		for _, key := range slices.Sorted(maps.Keys(m.Options)) {
			if !consistsOf(key, 1, 128, form.Letters+form.Digits+"_-.") {
				f.add(at, "%q is not the name of an option", form.Shorten(key))
			}
			if value := m.Options[key]; strings.ContainsFunc(value, isControl) || strings.ContainsAny(value, `"\`) {
				f.add(at, "the value of option %q has a line break, a quotation mark or a backslash", form.Shorten(key))
			}
		}
	}
}

func (f *nameFaults) services(s *hostconfig.Services) {
	for _, list := range []struct {
		at    string
		units []string
	}{{"os.services.enable", s.Enable}, {"os.services.disable", s.Disable}} {
		for i, unit := range list.units {
			if !isUnit(unit) {
				f.add(fmt.Sprintf("%s[%d]", list.at, i), "%q is not the name of a unit", form.Shorten(unit))
			}
		}
	}
	enabled := map[string]bool{}
	for _, unit := range s.Enable {
		enabled[UnitName(unit)] = true
	}
	for i, unit := range s.Disable {
		if enabled[UnitName(unit)] {
			f.add(fmt.Sprintf("os.services.disable[%d]", i), "%q is in os.services.enable too", form.Shorten(unit))
		}
	}
}

// checkEnvironment warns of variables that no program can get.
func (c *checker) checkEnvironment(at string, s *hostconfig.Script) {
	for _, name := range slices.Sorted(maps.Keys(s.EnvironmentVariables)) {
		here := form.Join(at+".environmentVariables", name)
		switch value := s.EnvironmentVariables[name]; {
		case !isVariable(name):
			c.warn(here, "%q is not the name of an environment variable: wants letters, digits and underscores, and no digit first", form.Shorten(name))
		case name == "SERVICING_TYPE" || name == "TARGET_ROOT":
			c.warn(here, "is a variable that Trident sets itself")
		case strings.ContainsRune(value, 0):
			c.warn(here, "has a zero byte in its value")
		}
	}
}

func isVariable(name string) bool {
	return consistsOf(name, 1, 255, form.Letters+form.Digits+"_") && !strings.ContainsAny(name[:1], form.Digits)
}

// isHostname follows hostname(5), and allows the underscore, as systemd does.
func isHostname(name string) bool {
	if !consistsOf(name, 1, 64, form.Letters+form.Digits+"-_.") {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) < 1 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// isAccountName follows useradd(8).
func isAccountName(name string) bool {
	stem := strings.TrimSuffix(name, "$")
	return consistsOf(stem, 1, 32, form.Letters+form.Digits+"_.-") && len(name) <= 32 && stem[0] != '-' && strings.Trim(stem, ".") != "" && !form.IsDigits(stem)
}

func isGroup(name string) bool { return isAccountName(name) || consistsOf(name, 1, 10, form.Digits) }

// isField reports whether s can be a field of passwd(5).
func isField(s string) bool {
	return len(s) <= 4096 && !strings.ContainsRune(s, ':') && !strings.ContainsFunc(s, isControl)
}

// isUnit reports whether unit is a name that systemctl accepts (systemd.unit(5)).
func isUnit(unit string) bool {
	name := UnitName(unit)
	stem := strings.TrimSuffix(name, path.Ext(name))
	return consistsOf(unit, 1, 255, form.Letters+form.Digits+`:-_.\@`) && unit[0] != '-' && stem != "" && stem[0] != '@'
}

// UnitName adds .service to a name without the suffix of a unit, as systemctl does.
func UnitName(name string) string {
	switch path.Ext(name) {
	case ".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice", ".scope":
		return name
	}
	return name + ".service"
}

// consistsOf reports whether s has least to most bytes, all of them in the set of.
func consistsOf(s string, least, most int, of string) bool {
	return len(s) >= least && len(s) <= most && strings.Trim(s, of) == ""
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
