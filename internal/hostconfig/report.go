// Package hostconfig is the Host Configuration: what one host shall be.
//
// Parse reads a document that somebody wrote and finds all its faults at once,
// each with line, column and path, so that a document is put right in one go.
// Only a document without a fault becomes a Config, and only this package
// makes one: what has a Config need not look for faults again.
//
// ParseRecorded reads a document that was accepted before, by another release
// or by upstream Trident, and takes it as it comes: a host must stay
// serviceable when the rules have changed since.
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
	Warning Severity = "warning" // it is taken, and may not do what was meant
)

// The names that a report as a whole can have: upstream's names of invalid input.
const (
	NameParse             = "ParseHostConfiguration"
	NameOldStyle          = "OldStyleConfiguration"
	NameAllowedOperations = "AllowedOperationsInHostConfiguration"
	NameStatic            = "InvalidHostConfigurationStatic"
)

// nameGraph is the Name of findings that have a Detail.
const nameGraph = "InvalidStorageGraph"

// Finding is one fault of a document.
type Finding struct {
	Line, Column int    // of the key or list item at fault, from 1; 0 when it has no place
	Path         string // as in storage.disks[0].partitions[2].size; "" is the whole document
	Severity     Severity
	// Name is upstream's name of the fault: one of the Name constants other
	// than NameStatic, or a variant of HostConfigurationStaticValidationError.
	Name string
	// Detail is the variant of StorageGraphBuildError when Name is
	// InvalidStorageGraph, and else "".
	Detail  string
	Message string // one line; never a secret
}

// String is one line: "3:5: storage.disks[0].id: is missing (ParseHostConfiguration)".
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

// Report is all findings of a document, by position.
type Report []Finding

// Err is nil when nothing in r is an Error. Otherwise its text has every such
// finding, one a line and below the first line when there are several; its kind is errkind.Invalid, and Invalid gives the faults.
func (r Report) Err() error {
	faults := slices.DeleteFunc(slices.Clone(r), func(f Finding) bool { return f.Severity != Error })
	if len(faults) == 0 {
		return nil
	}
	e := &InvalidError{Report: faults}
	return errkind.WithName(errkind.With(errkind.Invalid, e), e.Name())
}

// InvalidError is the faults that make a document unusable: at least one.
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

// Name is upstream's name of the error as a whole: NameParse, NameOldStyle or
// NameAllowedOperations when the document could not be read, else NameStatic.
func (e *InvalidError) Name() string {
	for _, name := range []string{NameOldStyle, NameAllowedOperations, NameParse} {
		if slices.ContainsFunc(e.Report, func(f Finding) bool { return f.Name == name }) {
			return name
		}
	}
	return NameStatic
}

// Invalid returns the faults in err's chain, or nil.
func Invalid(err error) *InvalidError {
	e, _ := errors.AsType[*InvalidError](err)
	return e
}

func (r Report) sort() {
	slices.SortStableFunc(r, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Path, b.Path))
	})
}
