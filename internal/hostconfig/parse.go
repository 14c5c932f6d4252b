package hostconfig

import (
	"fmt"
	"reflect"

	"github.com/trident-project/trident/internal/errkind"
)

// Check finds the faults of c that are not faults of its form: keys, types and single
// values. faults are those of its form. If there are any, c is incomplete and becomes no
// Config of a caller.
type Check func(c *Config, faults Report) Report

// Parse reads a document that a person wrote. The Config is nil if the Report has an
// Error. check, normally rules.Check, judges a document whose form was read; nil accepts
// every such document.
func Parse(text []byte, check Check) (*Config, Report) {
	n, bad := load(text, maxText)
	if bad != nil {
		return nil, Report{{Line: bad.line, Column: bad.column, Severity: Error, Name: NameParse, Message: bad.message}}
	}
	c := &Config{}
	d := decoder{places: places{"": {line: 1, column: 1}}}
	if n == nil {
		setDefaults(reflect.ValueOf(&c.spec).Elem())
		d.report = Report{{Line: 1, Column: 1, Severity: Warning, Message: "is empty: nothing is asked for"}}
	} else {
		d.places[""] = placeOf(n)
		d.decodeValue(n, reflect.ValueOf(&c.spec).Elem(), "", 0, mayBeNull)
	}
	c.places = d.places
	report := d.report
	if report.Err() == nil && len(c.YAML()) > maxText {
		report = append(report, c.Fault("", NameParse, fmt.Sprintf("is larger than %d KiB when it is written out", maxText>>10)))
	}
	if check != nil {
		report = append(report, check(c, report)...)
	}
	report.Sort()
	if report.Err() != nil {
		return nil, report
	}
	return c, report
}

// ParseRecorded reads a document from a datastore, which this release, another release or
// upstream Trident has accepted before. It converts older forms to the present form,
// keeps unknown keys, which have no effect and which YAML writes again, and checks no
// rule.
//
// It fails, with errkind.Corrupt, if text is not a YAML document or if a value has the
// wrong type.
func ParseRecorded(text []byte) (*Config, error) {
	n, bad := load(text, maxRecord)
	if bad != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read recorded Host Configuration: line %d: the document %s", bad.line, bad.message)
	}
	c := &Config{}
	d := decoder{places: places{}, extras: extras{}, lenient: true}
	if n == nil {
		setDefaults(reflect.ValueOf(&c.spec).Elem())
	} else {
		modernize(n)
		d.decodeValue(n, reflect.ValueOf(&c.spec).Elem(), "", 0, mayBeNull)
	}
	if err := d.report.Err(); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read recorded Host Configuration: %w", fmt.Errorf("%s", d.report[0]))
	}
	c.places, c.extras = d.places, d.extras
	return c, nil
}

// Empty returns the configuration of a host that nobody has configured.
func Empty() *Config {
	c, _ := Parse([]byte("{}"), nil)
	return c
}
