package errkind

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"unicode"

	"github.com/trident-project/trident/proto/errkind"
)

// A Category is a family of upstream's structured errors. Upstream's API has one enum
// value for each.
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

// A Name is upstream's name of an error. Programs that were written for upstream act on
// it; others act on the Kind.
type Name struct {
	Category Category
	Variant  string // RunPostConfigureScript; "" where upstream has no such error
}

// Subkind returns the variant as upstream's API spells it: RunPostConfigureScript is
// run-post-configure-script. It is "unknown" without a variant.
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

// nameError is the place where an error got its name.
type nameError struct {
	pc uintptr
	error
}

func (e *nameError) Unwrap() error { return e.error }

// WithName adds the upstream error that err is, by the name of the variant
// (RunPostConfigureScript). Text and kind do not change. Use it once, in the step that
// upstream names. A name in two of upstream's categories means that of Servicing.
// WithName(nil, …) is nil.
func WithName(err error, variant string) error {
	if err == nil {
		return nil
	}
	return &nameError{caller(), errkind.WithName(err, variant)}
}

// NameOf returns the outermost name in err's chain. Without one it returns upstream's
// most likely name for the kind.
func NameOf(err error) Name { return NameFrom(Variant(err), Of(err)) }

// Variant returns the outermost name of WithName in err's chain, or "".
func Variant(err error) string { return errkind.Name(err) }

// NameFrom returns the name of a recorded error, from its variant, which may be "", and
// its kind.
func NameFrom(variant string, kind Kind) Name {
	if variant == "" {
		return nameOfKind(kind)
	}
	return nameOf(variant)
}

// nameOf returns the name with the category of a variant: Servicing if upstream does not
// have it.
func nameOf(variant string) Name {
	for _, c := range categories() {
		if slices.Contains(strings.Fields(c.variants), variant) {
			return Name{c.category, variant}
		}
	}
	return Name{Category: Servicing, Variant: variant}
}

// Location returns where err got its name or, without one, its kind: the file, relative
// to the module's root, and the line. Both are zero if unknown.
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

// below joins the package's path in the module and the file's name, which do not depend
// on the place of the build.
func below(function, file string) string {
	slash := strings.LastIndexByte(function, '/')
	dot := strings.IndexByte(function[slash+1:], '.')
	if dot < 0 {
		return ""
	}
	pkg := strings.TrimPrefix(function[:slash+1+dot], "github.com/trident-project/trident/")
	return pkg + file[strings.LastIndexByte(file, '/'):]
}

// caller returns the program counter of the call to the exported function that calls
// caller.
func caller() uintptr {
	var pcs [1]uintptr
	runtime.Callers(3, pcs[:])
	return pcs[0]
}
