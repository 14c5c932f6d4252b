// Package rights says which right each method of Trident's API needs from a remote
// caller. The gateway and tridentd use the same table, so that tridentd refuses what the
// gateway must not ask for.
//
// Four rights are enough: read shows the state of the host, operate services it within what
// its owner installed, secret shows what may contain secrets, admin can destroy its data or
// change who and what it trusts.
package rights

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/nearest"
)

// A Right is what a method needs.
type Right string

// The rights. Operate and Secret each contain Read; Admin contains all.
const (
	Read    Right = "read"
	Operate Right = "operate"
	Secret  Right = "secret"
	Admin   Right = "admin"
)

// A Set is a set of rights. The zero value is empty.
type Set uint8

func bit(r Right) Set {
	switch r {
	case Read:
		return 1
	case Operate:
		return 2
	case Secret:
		return 4
	case Admin:
		return 8
	}
	return 0
}

// All returns the rights, the least one first.
func All() []Right { return []Right{Read, Operate, Secret, Admin} }

// Parse returns the set of the named rights and of those that they contain. The error for an
// unknown name is of kind Invalid; no name is an empty set.
func Parse(names []string) (Set, error) {
	var s Set
	for _, name := range names {
		switch b := bit(Right(name)); Right(name) {
		case Admin:
			s |= 15
		case Read, Operate, Secret:
			s |= b | bit(Read)
		default:
			return 0, unknown(name)
		}
	}
	return s, nil
}

func unknown(name string) error {
	var words []string
	for _, r := range All() {
		words = append(words, string(r))
	}
	err := errkind.Errorf(errkind.Invalid, "unknown right %q", name)
	if word := nearest.Word(name, words); word != "" {
		return errkind.WithHint(err, "did you mean %s?", word)
	}
	return errkind.WithHint(err, "the rights are %s", strings.Join(words, ", "))
}

// Has reports whether the set contains r. No set contains an unknown right.
func (s Set) Has(r Right) bool { return bit(r) != 0 && s&bit(r) != 0 }

// String lists the rights of the set, "none" for an empty one.
func (s Set) String() string {
	var out []string
	for _, r := range All() {
		if s.Has(r) {
			out = append(out, string(r))
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// index has the table by method. It is built once: each call needs it.
var index = sync.OnceValue(func() map[string]Right {
	out := map[string]Right{}
	for right, methods := range table() {
		for _, method := range methods {
			out[method] = right
		}
	}
	return out
})

// Of returns the right that a method needs; false for a method that no remote caller may
// call. A method is named as on the wire: "/trident.v1.VersionService/Version".
func Of(method string) (Right, bool) {
	r, ok := index()[method]
	return r, ok
}

// Check returns an error of kind Denied if the set lacks the right that a method needs. who
// names the caller in the error.
func (s Set) Check(who, method string) error {
	right, ok := Of(method)
	switch {
	case !ok:
		return errkind.WithHint(
			errkind.Errorf(errkind.Denied, "call a method for %s: this Trident does not have the method, or no remote caller may call it", who),
			"compare the versions of the client and of the host")
	}
	return s.Need(right, who, method)
}

// Need returns an error of kind Denied if the set lacks a right. who and method name the
// caller and the call in the error.
func (s Set) Need(right Right, who, method string) error {
	if s.Has(right) {
		return nil
	}
	return errkind.WithHint(
		errkind.Errorf(errkind.Denied, "call %s for %s: it needs the right %s, and %s has: %s", method, who, right, who, s),
		"the owner of the host grants rights in /etc/trident/gateway.yaml")
}

// Methods returns all methods of the table, sorted.
func Methods() []string { return slices.Sorted(maps.Keys(index())) }
