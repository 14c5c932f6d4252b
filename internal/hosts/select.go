package hosts

import (
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/nearest"
)

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
