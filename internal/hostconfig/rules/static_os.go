package rules

import (
	"fmt"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// extensionList is the sysexts or the confexts of a document.
type extensionList struct {
	path  string // in the document
	list  []hostconfig.Extension
	usual string   // the folder of those without a path
	dirs  []string // folders that systemd searches for this kind
}

func extensionLists(o *hostconfig.OS) []extensionList {
	return []extensionList{
		{"os.sysexts", o.Sysexts, "/var/lib/extensions", []string{"/var/lib/extensions", "/etc/extensions", "/.extra/sysext"}},
		{"os.confexts", o.Confexts, "/var/lib/confexts", []string{"/var/lib/confexts", "/usr/lib/confexts", "/usr/local/lib/confexts"}},
	}
}

// places returns the path of each image on the host, by the place in the document that says so.
func (l extensionList) places() iter.Seq2[string, string] {
	return func(yield func(at, file string) bool) {
		for i, e := range l.list {
			at, file := fmt.Sprintf("%s[%d]", l.path, i), l.usual
			if e.Path != "" {
				at, file = at+".path", e.Path
			}
			if !yield(at, file) {
				return
			}
		}
	}
}

func (c *checker) checkOS() {
	o := &c.spec.OS
	c.checkNetplan("os.netplan", o.Netplan)
	c.checkUsers("os.users", o.Users)
	for i := range o.AdditionalFiles {
		c.checkAdditionalFile(fmt.Sprintf("os.additionalFiles[%d]", i), &o.AdditionalFiles[i])
	}
	lists := extensionLists(o)
	for i, l := range lists {
		c.checkExtensions(l, lists[1-i])
	}
	c.warnNames(o)
}

func (c *checker) checkManagementOS() {
	m := &c.spec.ManagementOS
	c.checkNetplan("managementOs.netplan", m.Netplan)
	c.checkUsers("managementOs.users", m.Users)
}

func (c *checker) checkUsers(at string, users []hostconfig.User) {
	first := map[string]int{}
	for i, u := range users {
		if j, twice := first[u.Name]; twice {
			name, format := fmt.Sprintf("%s[%d].name", at, i), "%q is the name of %s[%d] already"
			if at == "os.users" {
				c.addFault(name, "DuplicateUsernames", format, form.Shorten(u.Name), at, j)
			} else { // where upstream does not look
				c.warn(name, format, form.Shorten(u.Name), at, j)
			}
			continue
		}
		first[u.Name] = i
		if u.SSHMode == hostconfig.SSHKeyOnly && len(u.SSHPublicKeys) == 0 {
			c.warn(fmt.Sprintf("%s[%d].sshMode", at, i), "is key-only, and there are no sshPublicKeys to log in with")
		}
	}
}

// maxPermissions excludes set-user-ID, set-group-ID and the sticky bit.
const maxPermissions = 0o777

func (c *checker) checkAdditionalFile(at string, f *hostconfig.AdditionalFile) {
	switch {
	case f.Content != nil && f.Source != "":
		c.addFault(at, "AdditionalFileBothContentAndSource", "has both content and source; wants one of them")
	case f.Source == path.Clean(""): // which is how hostconfig reads an empty path
		c.warn(at+".source", "is empty, and names no file")
	case f.Content == nil && f.Source == "":
		c.addFault(at, "AdditionalFileNoContentOrSource", "has neither content nor source; wants one of them")
	}
	if p := f.Permissions; p != "" || c.config.Gives(at+".permissions") {
		// Without the 0 in front, YAML may have turned an octal number into decimal digits.
		if n, err := strconv.ParseUint(p, 8, 32); err != nil || n > maxPermissions || p[0] != '0' { // err is not nil for ""
			c.addFault(at+".permissions", "AdditionalFileInvalidPermissions", "is %q; wants octal digits that start with 0, up to 0777, in quotes", form.Shorten(p))
		}
	}
	if !isAbs(f.Destination) {
		c.warn(at+".destination", "is %q, which is taken from the root of the OS", form.Shorten(f.Destination))
	}
}

// checkExtensions checks one list; other is the list of the other kind.
func (c *checker) checkExtensions(l, other extensionList) {
	hashes, paths, names := map[hostconfig.Hash]string{}, map[string]string{}, map[string]string{}
	for i, e := range l.list {
		at := fmt.Sprintf("%s[%d]", l.path, i)
		if first := hashes[e.SHA384]; first != "" {
			c.addFault(at+".sha384", "DuplicateExtensionImage", "is that of %s already: it is the same image", first)
		} else if e.SHA384 != "" {
			hashes[e.SHA384] = at
		}
		if e.Path == "" && !c.config.Gives(at+".path") {
			continue
		}
		if extension(e.Path) != "raw" {
			c.addFault(at+".path", "ExtensionImageInvalidFileExtension", "is %q; wants NAME.raw", form.Shorten(e.Path))
		}
		// Upstream leaves ".." in a path as it is; here it is resolved.
		if dir := folder(e.Path); !slices.Contains(l.dirs, dir) && !(hasDotDot(dir) && slices.Contains(l.dirs, path.Clean(dir))) {
			why := ""
			if slices.Contains(other.dirs, path.Clean(dir)) {
				why = ", where systemd does not look for this kind of extension"
			}
			c.addFault(at+".path", "ExtensionImageInvalidDirectory", "is in %q%s; wants one of %s", form.Shorten(dir), why, strings.Join(l.dirs, ", "))
		}
		file := path.Clean(e.Path)
		if first := paths[file]; first != "" {
			c.addFault(at+".path", "DuplicateExtensionImagePath", "%s is the path of %s already", form.Shorten(file), first)
			continue
		}
		paths[file] = at
		// systemd merges only one of two images with the same name in different folders.
		if first := names[path.Base(file)]; first != "" {
			c.warn(at+".path", "has the name of %s, and systemd merges only one extension of a name", first)
		} else {
			names[path.Base(file)] = at
		}
	}
}
