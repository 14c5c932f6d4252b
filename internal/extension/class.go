package extension

import "path"

// Class is the kind of an extension. systemd has two, each with its own folders, files and
// service.
type Class string

// The classes. A Sysext is merged over /usr and /opt, a Confext over /etc
// (systemd from 254 on).
const (
	Sysext  Class = "sysext"
	Confext Class = "confext"
)

// facts are the rules of systemd-sysext(8) and systemd-confext(8) for a class.
type facts struct {
	unit       string
	search     []string // where systemd looks; the first hit for a name wins
	allowed    []string // where an extension of a Host Configuration may be, the default first
	releaseDir string
	fields     string // how the names of its fields in os-release(5) begin
	merged     string // systemd writes it into the tree that it merges
	// minimal is the first systemd that knows the class.
	minimal int
}

func (c Class) facts() facts {
	if c == Confext {
		return facts{
			unit:       "systemd-confext.service",
			search:     []string{"run/confexts", "var/lib/confexts", "usr/lib/confexts", "usr/local/lib/confexts"},
			allowed:    []string{"var/lib/confexts", "usr/lib/confexts", "usr/local/lib/confexts"},
			releaseDir: "etc/extension-release.d",
			fields:     "CONFEXT_",
			merged:     "etc/.systemd-confext/confexts",
			minimal:    254,
		}
	}
	return facts{
		unit: "systemd-sysext.service",
		// Since 254. Those before also look below /usr, which nobody uses.
		search:     []string{"etc/extensions", "run/extensions", "var/lib/extensions"},
		allowed:    []string{"var/lib/extensions", "etc/extensions", ".extra/sysext"},
		releaseDir: "usr/lib/extension-release.d",
		fields:     "SYSEXT_",
		merged:     "usr/.systemd-sysext/extensions",
		minimal:    248,
	}
}

func (c Class) valid() bool { return c == Sysext || c == Confext }

// other is for the text of errors: what an image may have been meant for.
func (c Class) other() Class {
	if c == Confext {
		return Sysext
	}
	return Confext
}

// suffix may stand before ".raw" and is no part of the name (systemd from 255 on).
func (c Class) suffix() string { return "." + string(c) }

// tool is the program that merges.
func (c Class) tool() string { return "systemd-" + string(c) }

// releaseFile is where an extension called name says what it is.
func (c Class) releaseFile(name string) string {
	return path.Join(c.facts().releaseDir, releasePrefix+name)
}
