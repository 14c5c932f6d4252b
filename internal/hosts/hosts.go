// Package hosts has the hosts that a person has given names to: it reads, changes and
// selects from the file hosts.yaml, and connects to the hosts in it.
//
// The file decides where commands and tokens go, and may name programs to run. So a file that
// others can write is refused, and so are keys and tokens that others can read.
package hosts

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// A Host is one entry of the file. Paths in it are relative to the folder of the file.
type Host struct {
	// Endpoints are targets of client.Dial: unix:PATH, ssh://…, tls://…. They are tried in
	// this order.
	Endpoints []string
	// Certificate, Key and CA are files in PEM form for tls://. Without CA the authorities
	// that the system trusts are trusted.
	Certificate, Key, CA string
	// ServerName is the name in the certificate of the server; empty, it is the host of the
	// endpoint.
	ServerName string
	// TokenFile has a bearer token for tls://.
	TokenFile string
	// SSHCommand and RemoteCommand replace ssh and trident dial-stdio for ssh://.
	SSHCommand, RemoteCommand []string
	Labels                    map[string]string
}

// A Label is a name and a value that a host has to have to be selected.
type Label struct{ Name, Value string }

// ParseLabel parses NAME=VALUE. The error is of kind Invalid.
func ParseLabel(text string) (Label, error) {
	name, value, ok := strings.Cut(text, "=")
	switch {
	case !ok:
		return Label{}, errkind.Errorf(errkind.Invalid, "%q is not NAME=VALUE", text)
	case !isName(name):
		return Label{}, errkind.Errorf(errkind.Invalid, "%q is not the name of a label: use letters, digits, dots, hyphens, underscores and slashes", name)
	case value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return Label{}, errkind.Errorf(errkind.Invalid, "the label %q has no value, or one with control characters", name)
	}
	return Label{name, value}, nil
}

// maxName is the longest name of a host or a label, in bytes.
const maxName = 253

// isName reports whether text names a host or a label. A name has no comma, colon or equals
// sign, and does not begin with a hyphen, a dot or a slash.
func isName(text string) bool {
	for i, r := range text {
		isWord := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
		if !isWord && (i == 0 || !strings.ContainsRune("-./", r)) {
			return false
		}
	}
	return text != "" && len(text) <= maxName
}

// isHostName reports whether text names a host.
func isHostName(text string) bool { return isName(text) && !strings.Contains(text, "/") }

// IsEndpoint reports whether text is a target of client.Dial, and not the name of a host.
func IsEndpoint(text string) bool {
	return strings.HasPrefix(text, "unix:") || strings.Contains(text, "://")
}

// Names returns the names of all hosts, sorted.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.hosts)) }

// Host returns the host of a name.
func (f *File) Host(name string) (Host, bool) {
	h, ok := f.hosts[name]
	return h, ok
}

// LabelText returns the labels of a host as NAME=VALUE, sorted.
func (h Host) LabelText() string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(h.Labels)) {
		words = append(words, fmt.Sprintf("%s=%s", name, h.Labels[name]))
	}
	return strings.Join(words, " ")
}
