package hostconfig

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// extensionList is the sysexts or the confexts of a document.
type extensionList struct {
	path  string // in the document
	list  []Extension
	usual string   // the folder of those without a path
	dirs  []string // folders that systemd searches for this kind
}

func (o *OS) extensionLists() []extensionList {
	return []extensionList{
		{"os.sysexts", o.Sysexts, "/var/lib/extensions", []string{"/var/lib/extensions", "/etc/extensions", "/.extra/sysext"}},
		{"os.confexts", o.Confexts, "/var/lib/confexts", []string{"/var/lib/confexts", "/usr/lib/confexts", "/usr/local/lib/confexts"}},
	}
}

func (c *checker) os() {
	o := &c.spec.OS
	c.netplan("os.netplan", o.Netplan)
	c.users("os.users", o.Users)
	for i := range o.AdditionalFiles {
		c.additionalFile(fmt.Sprintf("os.additionalFiles[%d]", i), &o.AdditionalFiles[i])
	}
	lists := o.extensionLists()
	dirs := slices.Concat(lists[0].dirs, lists[1].dirs)
	for _, l := range lists {
		c.extensions(l, dirs)
	}
}

func (c *checker) managementOS() {
	m := &c.spec.ManagementOS
	c.netplan("managementOs.netplan", m.Netplan)
	c.users("managementOs.users", m.Users)
}

func (c *checker) users(at string, users []User) {
	first := map[string]int{}
	for i, u := range users {
		if j, twice := first[u.Name]; twice {
			c.fault(fmt.Sprintf("%s[%d].name", at, i), "DuplicateUsernames", "%q is the name of %s[%d] already", u.Name, at, j)
			continue
		}
		first[u.Name] = i
		if u.SSHMode == SSHKeyOnly && len(u.SSHPublicKeys) == 0 {
			c.warn(fmt.Sprintf("%s[%d].sshMode", at, i), "is key-only, and there are no sshPublicKeys to log in with")
		}
	}
}

// maxPermissions is all for all, without set-user-ID, set-group-ID and sticky.
const maxPermissions = 0o777

func (c *checker) additionalFile(at string, f *AdditionalFile) {
	switch {
	case f.Content != nil && f.Source != "":
		c.fault(at, "AdditionalFileBothContentAndSource", "has both content and source; wants one of them")
	case f.Content == nil && f.Source == "":
		c.fault(at, "AdditionalFileNoContentOrSource", "has neither content nor source; wants one of them")
	}
	if p := f.Permissions; p != "" {
		// Without the 0 it may be a number that YAML has turned into decimal digits.
		if n, err := strconv.ParseUint(p, 8, 32); err != nil || n > maxPermissions || p[0] != '0' {
			c.fault(at+".permissions", "AdditionalFileInvalidPermissions", "is %q; wants octal digits that start with 0, up to 0777, in quotes", brief(p))
		}
	}
	if !isAbs(f.Destination) {
		c.warn(at+".destination", "is %q, and is taken from the root of the OS", brief(f.Destination))
	}
}

func (c *checker) extensions(l extensionList, dirs []string) {
	hashes, paths, names := map[Hash]string{}, map[string]string{}, map[string]string{}
	for i, e := range l.list {
		at := fmt.Sprintf("%s[%d]", l.path, i)
		if first := hashes[e.SHA384]; first != "" {
			c.fault(at+".sha384", "DuplicateExtensionImage", "is that of %s already: it is the same image", first)
		} else if e.SHA384 != "" {
			hashes[e.SHA384] = at
		}
		if e.Path == "" {
			continue
		}
		if extension(e.Path) != ".raw" || strings.HasSuffix(e.Path, "/") {
			c.fault(at+".path", "ExtensionImageInvalidFileExtension", "is %q, and must end in .raw", brief(e.Path))
		}
		switch dir := path.Dir(e.Path); {
		case !slices.Contains(dirs, dir):
			c.fault(at+".path", "ExtensionImageInvalidDirectory", "is in %q; wants one of %s", brief(dir), strings.Join(l.dirs, ", "))
		case !slices.Contains(l.dirs, dir):
			c.warn(at+".path", "is in %s, where systemd does not look for this kind of extension", dir)
		}
		file := path.Clean(e.Path)
		if first := paths[file]; first != "" {
			c.fault(at+".path", "DuplicateExtensionImagePath", "%s is the path of %s already", brief(file), first)
			continue
		}
		paths[file] = at
		// Of two images with one name in two folders systemd takes one.
		if first := names[path.Base(file)]; first != "" {
			c.warn(at+".path", "has the name of %s, and systemd merges only one extension of a name", first)
		} else {
			names[path.Base(file)] = at
		}
	}
}

// netplan checks what netplan itself would only find when it is applied.
func (c *checker) netplan(at string, n Netplan) {
	if n == nil {
		return
	}
	if v, ok := n["version"]; !ok {
		hint := ""
		if _, inner := n["network"]; inner {
			hint = ": what is below the key network belongs here, without that key"
		}
		c.fault(at, "InvalidNetplanVersion", "has no version; wants version: 2%s", hint)
	} else if fmt.Sprint(v) != "2" {
		c.fault(join(at, "version"), "InvalidNetplanVersion", "must be 2")
	}
	c.renderer(at, n)
	for _, kind := range []string{"ethernets", "bridges", "bonds", "vlans", "wifis", "modems", "tunnels", "dummy-devices", "virtual-ethernets", "vrfs"} {
		section, _ := n[kind].(map[string]any)
		in := join(at, kind)
		c.renderer(in, section)
		for id, v := range section {
			here := join(in, id)
			if _, isSetting := v.(string); id == "renderer" && isSetting {
				continue // of all in the section, and not an interface
			}
			if !isInterfaceID(id) {
				c.fault(here, "InvalidInterfaceName", "%q is no name of an interface: wants visible ASCII characters, without * ? [ ]", brief(id))
			}
			if settings, ok := v.(map[string]any); ok {
				c.renderer(here, settings)
			}
		}
	}
}

// renderer checks the renderer that settings ask for. networkd is the default.
func (c *checker) renderer(at string, settings map[string]any) {
	if r, ok := settings["renderer"].(string); ok && r != "networkd" {
		c.fault(join(at, "renderer"), "UnsupportedNetplanRenderer", "is %q, and only networkd is supported", brief(r))
	}
}

// isInterfaceID follows netplan: an id is visible ASCII, and has no glob, which
// belongs under match.
func isInterfaceID(id string) bool {
	return id != "" && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("*?[]", r) })
}
