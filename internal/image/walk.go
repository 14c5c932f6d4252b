package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxList bounds the arrays that are about partitions; a GPT has 128.
const maxList = 1024

// walker collects the findings while metadata is read.
type walker struct {
	newer    bool // a minor version after 1.3: unknown words are warnings
	findings []Finding
}

// fault adds a finding that is always a fault.
func (w *walker) fault(name, path, format string, args ...any) {
	w.findings = append(w.findings, Finding{Name: name, Path: path, Text: fmt.Sprintf(format, args...)})
}

// doubt adds a finding that relaxed validation makes a warning.
func (w *walker) doubt(name, path, format string, args ...any) {
	w.findings = append(w.findings, Finding{Name: name, Path: path, Text: fmt.Sprintf(format, args...), Relaxable: true})
}

// warn adds a finding that is always a warning.
func (w *walker) warn(name, path, format string, args ...any) {
	w.findings = append(w.findings, Finding{Name: name, Path: path, Text: fmt.Sprintf(format, args...), Relaxable: true, warning: true})
}

// unknown adds a finding about a word that a later version may define.
func (w *walker) unknown(path, format string, args ...any) {
	f := Finding{Name: NameParse, Path: path, Text: fmt.Sprintf(format, args...), Relaxable: w.newer, warning: w.newer}
	w.findings = append(w.findings, f)
}

// object is an object at a path of the document. A missing object has nil fields, and its
// methods report no missing fields.
type object struct {
	*walker
	path   string
	fields map[string]any
}

func (o object) at(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

// get returns a field; false if it is missing or null. With need that is a fault.
func (o object) get(key string, need bool) (any, bool) {
	v := o.fields[key]
	if v == nil && need && o.fields != nil {
		o.fault(NameParse, o.at(key), "is missing")
	}
	return v, v != nil
}

func (o object) text(key string, need bool) string {
	v, ok := o.get(key, need)
	s, is := v.(string)
	if ok && !is {
		o.fault(NameParse, o.at(key), "is %s, must be a string", kindOf(v))
	}
	return s
}

// is reports whether a field is a string.
func (o object) is(key string) bool {
	_, is := o.fields[key].(string)
	return is
}

// word returns a text, and adds a finding if it is not one of words.
func (o object) word(key string, words ...string) string {
	s := o.text(key, true)
	if o.is(key) && !slices.Contains(words, s) {
		o.unknown(o.at(key), "is %.32q, must be one of %s", s, strings.Join(words, ", "))
	}
	return s
}

// number returns a whole number from 0 to highest; another value is a fault.
func (o object) number(key string, need bool, highest int64) (int64, bool) {
	v, ok := o.get(key, need)
	if !ok {
		return 0, false
	}
	n, is := v.(json.Number)
	if !is {
		o.fault(NameParse, o.at(key), "is %s, must be a number", kindOf(v))
		return 0, false
	}
	i, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || i < 0 || i > highest {
		o.fault(NameParse, o.at(key), "is %.32s, must be a whole number from 0 to %d", n, highest)
		return 0, false
	}
	return i, true
}

func (o object) object(key string, need bool) (object, bool) {
	v, ok := o.get(key, need)
	fields, is := v.(map[string]any)
	if ok && !is {
		o.fault(NameParse, o.at(key), "is %s, must be an object", kindOf(v))
	}
	return object{o.walker, o.at(key), fields}, is
}

// list returns the objects of an array, and whether there is an array.
func (o object) list(key string, need bool, longest int) ([]object, bool) {
	v, ok := o.get(key, need)
	if !ok {
		return nil, false
	}
	values, is := v.([]any)
	if !is {
		o.fault(NameParse, o.at(key), "is %s, must be an array", kindOf(v))
		return nil, false
	}
	if len(values) > longest {
		o.fault(NameParse, o.at(key), "has %d elements, %d are read at most", len(values), longest)
		return nil, true
	}
	out := make([]object, len(values))
	for i, v := range values {
		path := fmt.Sprintf("%s[%d]", o.at(key), i)
		fields, is := v.(map[string]any)
		if !is {
			o.fault(NameParse, path, "is %s, must be an object", kindOf(v))
		}
		out[i] = object{o.walker, path, fields}
	}
	return out, true
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	}
	return "null"
}
