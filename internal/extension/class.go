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
	search     []string // the folders that systemd searches; the first hit for a name wins
	allowed    []string // the folders for extensions of a Host Configuration, the default first
	merges     []string // the folders of the host over which systemd merges it
	releaseDir string
	fields     string // the prefix of the names of its fields in os-release(5)
	merged     string // the list of extensions that systemd writes into the merged tree
	// minimal is the first version of systemd with the class.
	minimal int
}

func (c Class) facts() facts {
	if c == Confext {
		return facts{
			unit:       "systemd-confext.service",
			search:     []string{"run/confexts", "var/lib/confexts", "usr/lib/confexts", "usr/local/lib/confexts"},
			allowed:    []string{"var/lib/confexts", "usr/lib/confexts", "usr/local/lib/confexts"},
			merges:     []string{"etc"},
			releaseDir: "etc/extension-release.d",
			fields:     "CONFEXT_",
			merged:     "etc/.systemd-confext/confexts",
			minimal:    254,
		}
	}
	return facts{
		unit: "systemd-sysext.service",
		// Since 254. Earlier versions also search folders below /usr, which nobody uses.
		search:     []string{"etc/extensions", "run/extensions", "var/lib/extensions"},
		allowed:    []string{"var/lib/extensions", "etc/extensions", ".extra/sysext"},
		merges:     []string{"usr", "opt"},
		releaseDir: "usr/lib/extension-release.d",
		fields:     "SYSEXT_",
		merged:     "usr/.systemd-sysext/extensions",
		minimal:    248,
	}
}

func (c Class) valid() bool { return c == Sysext || c == Confext }

// other returns the other class, for errors about an image of the wrong class.
func (c Class) other() Class {
	if c == Confext {
		return Sysext
	}
	return Confext
}

// suffix returns the optional suffix before ".raw" in a file name, which is not a part of
// the extension's name (systemd from 255 on).
func (c Class) suffix() string { return "." + string(c) }

// tool returns the name of the program that merges.
func (c Class) tool() string { return "systemd-" + string(c) }

// releaseFile returns the path of the extension-release of an extension called name.
func (c Class) releaseFile(name string) string {
	return path.Join(c.facts().releaseDir, releasePrefix+name)
}
