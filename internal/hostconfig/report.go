// Package hostconfig is the Host Configuration: the document that says what a host
// should be.
//
// Parse reads a document that a person wrote and reports all its faults at once, each
// with line, column and path; the package rules finds those that concern more than one
// value: Parse(text, rules.Check). Code that has a Config from Parse need not check for
// faults again.
//
// ParseRecorded reads a document that another release or upstream Trident has accepted
// before, and checks no rules, because a host must stay serviceable when the rules change.
// Its Config may break rules of this release.
//
// A record on disk holds a document as a field of type Recorded, which is parsed once and
// only if somebody asks for its meaning:
//
//	type record struct {
//		Asked hostconfig.Recorded `json:"asked"` // a string in JSON
//	}
//
//	r := record{Asked: config.Recorded()}
//	json.Unmarshal(journal, &r)      // parses no YAML
//	asked, err := r.Asked.Config()   // parses the document
//	asked, err = r.Asked.Config()    // returns the same Config
package hostconfig

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// Severity says whether a finding makes a document unusable.
type Severity string

const (
	Error   Severity = "error"   // the document is refused
	Warning Severity = "warning" // the document is accepted, and may not do what its author meant
)

// The names that a report as a whole can have: upstream's names of invalid input.
const (
	NameParse             = errkind.NameParseHostConfiguration
	NameOldStyle          = errkind.NameOldStyleConfiguration
	NameAllowedOperations = errkind.NameAllowedOperationsInHostConfiguration
	NameStatic            = errkind.NameInvalidHostConfigurationStatic
)

// NameGraph is the Name of findings that have a Detail.
const NameGraph = "InvalidStorageGraph"

// Finding is one fault of a document.
type Finding struct {
	Line, Column int    // of the key or list item at fault, from 1; 0 if unknown
	Path         string // as in storage.disks[0].partitions[2].size; "" is the whole document
	Severity     Severity
	// Name is upstream's name of the fault: one of the Name constants other
	// than NameStatic, or a variant of HostConfigurationStaticValidationError.
	Name string
	// Detail is the variant of StorageGraphBuildError if Name is NameGraph, else "".
	Detail  string
	Message string // one line; never a secret
}

// String returns one line: "3:5: storage.disks[0].id: is missing (ParseHostConfiguration)".
func (f Finding) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", f.Line, f.Column)
	}
	if f.Severity == Warning {
		b.WriteString("warning: ")
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	if name := strings.TrimPrefix(f.Name+"/"+f.Detail, "/"); name != "" {
		b.WriteString(" (" + strings.TrimSuffix(name, "/") + ")")
	}
	return b.String()
}

// Report is all findings of a document, sorted by place.
type Report []Finding

// Err returns nil if r has no Error. Otherwise it returns an error of kind
// errkind.Invalid with all Errors of r; Invalid returns them from it.
func (r Report) Err() error {
	faults := slices.DeleteFunc(slices.Clone(r), func(f Finding) bool { return f.Severity != Error })
	if len(faults) == 0 {
		return nil
	}
	e := &InvalidError{Report: faults}
	return errkind.WithName(errkind.With(errkind.Invalid, e), e.Name())
}

// InvalidError has the faults for which a document is refused: at least one.
type InvalidError struct{ Report Report }

func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Report))
	for i, f := range e.Report {
		lines[i] = f.String()
	}
	if len(lines) == 1 {
		return "read Host Configuration: " + lines[0]
	}
	return fmt.Sprintf("read Host Configuration: %d faults:\n%s", len(lines), strings.Join(lines, "\n"))
}

// Name returns upstream's name of the whole error: NameParse, NameOldStyle or
// NameAllowedOperations if the document could not be read, else NameStatic.
func (e *InvalidError) Name() string {
	for _, name := range []string{NameOldStyle, NameAllowedOperations, NameParse} {
		if slices.ContainsFunc(e.Report, func(f Finding) bool { return f.Name == name }) {
			return name
		}
	}
	return NameStatic
}

// Invalid returns the InvalidError in err's chain, or nil.
func Invalid(err error) *InvalidError {
	e, _ := errors.AsType[*InvalidError](err)
	return e
}

// Sort sorts r by place.
func (r Report) Sort() {
	slices.SortStableFunc(r, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Path, b.Path))
	})
}
