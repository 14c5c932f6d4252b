package hostconfig

import (
	"fmt"
	"reflect"

	"github.com/trident-project/trident/internal/errkind"
)

// Parse reads a document that somebody wrote. The Config is nil when the
// Report has an Error. Rules that need the whole document are looked at only
// once every single value of it could be read.
func Parse(text []byte) (*Config, Report) {
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
		report = append(report, c.places.fault("", NameParse, fmt.Sprintf("is larger than %d KiB when it is written out", maxText>>10)))
	}
	if report.Err() == nil {
		report = append(report, validate(&c.spec, c.places)...)
	} else {
		report = append(report, readNames(&c.spec, c.places, report)...)
	}
	report.sort()
	if report.Err() != nil {
		return nil, report
	}
	return c, report
}

// ParseRecorded reads a document that was accepted before, by this release,
// another one, or upstream Trident, and was kept in a datastore. Keys of older
// shapes get their present place; what this release does not know is kept and
// written again by YAML, and does nothing; no rule is looked at.
//
// It fails, with errkind.Corrupt, when text is no document, or a value is of
// another type than its key has.
func ParseRecorded(text []byte) (*Config, error) {
	n, bad := load(text, maxRecord)
	if bad != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read recorded Host Configuration: line %d: it %s", bad.line, bad.message)
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
