package errkind

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"unicode"
)

// A Category is the family of upstream's structured errors that a name belongs
// to. Upstream's API has one enum value for each.
type Category string

// The categories.
const (
	ExecutionEnvironment     Category = "ExecutionEnvironmentMisconfiguration"
	HealthChecks             Category = "HealthChecks"
	Initialization           Category = "Initialization"
	InternalFault            Category = "Internal"
	InvalidInput             Category = "InvalidInput"
	Servicing                Category = "Servicing"
	UnsupportedConfiguration Category = "UnsupportedConfiguration"
)

// A Name is what upstream calls an error. Programs that were written for
// upstream act on it; everybody else acts on the Kind.
type Name struct {
	Category Category
	Variant  string // RunPostConfigureScript; "" where upstream has no such error
}

// Subkind is the variant as upstream's API spells it: run-post-configure-script.
func (n Name) Subkind() string {
	if n.Variant == "" {
		return "unknown"
	}
	var out strings.Builder
	in := []rune(n.Variant)
	for i, r := range in {
		upper := unicode.IsUpper(r)
		after := i > 0 && !unicode.IsUpper(in[i-1])
		before := i > 0 && i+1 < len(in) && unicode.IsLower(in[i+1])
		if upper && (after || before) {
			out.WriteByte('-')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}

type nameError struct {
	name string
	pc   uintptr
	error
}

func (e *nameError) Unwrap() error { return e.error }

// WithName says which of upstream's structured errors err is, by the name of the
// variant (RunPostConfigureScript). Text and kind stay as they are. It is given
// once, where the step that upstream names failed; a name that upstream has in
// two categories is the one of Servicing. WithName(nil, …) is nil.
func WithName(err error, variant string) error {
	if err == nil {
		return nil
	}
	return &nameError{variant, caller(), err}
}

// NameOf returns the outermost name in err's chain. For an error without one it
// is what upstream's own would most likely be, going by the kind.
func NameOf(err error) Name {
	if e, ok := errors.AsType[*nameError](err); ok {
		return nameOf(e.name)
	}
	return nameOfKind(Of(err))
}

// Variant returns the outermost name that was given in err's chain, or "".
func Variant(err error) string {
	if e, ok := errors.AsType[*nameError](err); ok {
		return e.name
	}
	return ""
}

// NameFrom is the name of an error that was written down as its variant, which
// may be "", and its kind.
func NameFrom(variant string, kind Kind) Name {
	if variant == "" {
		return nameOfKind(kind)
	}
	return nameOf(variant)
}

// nameOf finds the category of a variant. One that upstream does not have is a
// servicing error.
func nameOf(variant string) Name {
	for _, c := range categories() {
		if slices.Contains(strings.Fields(c.variants), variant) {
			return Name{c.category, variant}
		}
	}
	return Name{Category: Servicing, Variant: variant}
}

// Location is where in our source err got its name or, without one, its kind:
// the file below the module's root, and the line. Both are zero where that is
// not known.
func Location(err error) (file string, line int) {
	var pc uintptr
	if e, ok := errors.AsType[*nameError](err); ok {
		pc = e.pc
	} else if e, ok := errors.AsType[*kindError](err); ok {
		pc = e.pc
	}
	if pc == 0 {
		return "", 0
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	return below(frame.Function, frame.File), frame.Line
}

// below makes a path of the package, which does not depend on where and how it
// was built, and the file's name.
func below(function, file string) string {
	slash := strings.LastIndexByte(function, '/')
	dot := strings.IndexByte(function[slash+1:], '.')
	if dot < 0 {
		return ""
	}
	pkg := strings.TrimPrefix(function[:slash+1+dot], "github.com/trident-project/trident/")
	return pkg + file[strings.LastIndexByte(file, '/'):]
}

// caller is the program counter of who called the function of this package that
// calls caller.
func caller() uintptr {
	var pcs [1]uintptr
	runtime.Callers(3, pcs[:])
	return pcs[0]
}
