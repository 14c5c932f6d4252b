// Package arch lists the architectures that Trident is built for, with the names that
// Go, the kernel, systemd, rpm, dpkg and people use for them.
package arch

import (
	"fmt"
	"slices"
	"strings"
)

// names has every name of an architecture; the first is Go's, which Trident's build uses.
var names = [][]string{
	{"amd64", "x86_64", "x86-64", "x64"},
	{"arm64", "aarch64"},
}

// Parse returns Go's name (GOARCH) of the architecture that has the given name, in upper
// or lower case.
func Parse(name string) (string, error) {
	for _, one := range names {
		if slices.Contains(one, strings.ToLower(name)) {
			return one[0], nil
		}
	}
	var known []string
	for _, one := range names {
		known = append(known, fmt.Sprintf("%s (also %s)", one[0], strings.Join(one[1:], ", ")))
	}
	return "", fmt.Errorf("%q is not an architecture that Trident is built for: %s", name, strings.Join(known, ", "))
}

// Systemd returns systemd's name (systemd.unit(5), ConditionArchitecture=) of the
// architecture that has the given name, or name itself if Parse does not know it.
func Systemd(name string) string {
	switch one, _ := Parse(name); one {
	case "amd64":
		return "x86-64"
	case "arm64":
		return "arm64"
	}
	return name
}

// Names returns every name that Parse knows, those of one architecture beside each other.
func Names() []string { return slices.Concat(names...) }

// ParseList returns Go's names of a list that is separated by commas or spaces, each once,
// in the order of the list.
func ParseList(list string) ([]string, error) {
	var out []string
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		one, err := Parse(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, one) {
			out = append(out, one)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the list of architectures is empty; name amd64, arm64 or both")
	}
	return out, nil
}
