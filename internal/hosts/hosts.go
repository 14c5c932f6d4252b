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
	"github.com/trident-project/trident/internal/nearest"
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

// A Target is a selected host.
type Target struct {
	Name   string // as it was given
	Host   Host
	folder string // that relative paths in Host begin at
}

// Select returns the targets of the names, which are names in f or endpoints, each once, in
// the order in which they are given. Without names it returns all hosts of f, by name. With
// labels it returns only hosts that have all of them. A name that f does not have is of kind
// NotFound, and so is an empty selection.
func (f *File) Select(names []string, labels []Label) ([]Target, error) {
	if len(names) == 0 {
		names = f.Names()
	}
	var out []Target
	seen := map[string]bool{}
	for _, name := range names {
		t, err := f.target(name)
		if err != nil {
			return nil, err
		}
		if IsEndpoint(name) && len(labels) > 0 {
			return nil, errkind.Errorf(errkind.Invalid, "select hosts: labels select hosts of %s, and %s is an endpoint", f.path, name)
		}
		if !seen[name] && t.Host.has(labels) {
			out = append(out, t)
		}
		seen[name] = true
	}
	if len(out) == 0 {
		err := errkind.Errorf(errkind.NotFound, "select hosts: no host of %s has %s", f.path, labelText(labels))
		return nil, errkind.WithHint(err, "See the hosts and their labels: trident hosts list")
	}
	return out, nil
}

func (f *File) target(name string) (Target, error) {
	if IsEndpoint(name) {
		return Target{Name: name, Host: Host{Endpoints: []string{name}}, folder: "."}, nil
	}
	host, ok := f.hosts[name]
	if ok {
		return Target{Name: name, Host: host, folder: f.folder()}, nil
	}
	switch meant := nearest.Word(name, f.Names()); {
	case meant != "":
		return Target{}, errkind.WithHint(f.unknown(name), "Did you mean %s?", meant)
	case strings.ContainsAny(name, "/@:"):
		return Target{}, errkind.WithHint(f.unknown(name), "A host is a name, unix:PATH, ssh://[user@]host[:port] or tls://host:port.")
	}
	return Target{}, errkind.WithHint(f.unknown(name), "Name it: trident hosts add %s ssh://root@%s", name, name)
}

func (f *File) unknown(name string) error {
	return errkind.Errorf(errkind.NotFound, "%q is not a host of %s", name, f.path)
}

// Names returns the names of all hosts, sorted.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.hosts)) }

// Host returns the host of a name.
func (f *File) Host(name string) (Host, bool) {
	h, ok := f.hosts[name]
	return h, ok
}

func (h Host) has(labels []Label) bool {
	return !slices.ContainsFunc(labels, func(l Label) bool { return h.Labels[l.Name] != l.Value })
}

func labelText(labels []Label) string {
	if len(labels) == 0 {
		return "a name"
	}
	var words []string
	for _, l := range labels {
		words = append(words, l.Name+"="+l.Value)
	}
	return "the label " + strings.Join(words, " and ")
}

// LabelText returns the labels of a host as NAME=VALUE, sorted.
func (h Host) LabelText() string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(h.Labels)) {
		words = append(words, fmt.Sprintf("%s=%s", name, h.Labels[name]))
	}
	return strings.Join(words, " ")
}
