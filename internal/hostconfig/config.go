package hostconfig

import (
	"reflect"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// Config is a Host Configuration. Parse, ParseRecorded and Empty make one; only that of
// ParseRecorded may break rules. The zero value is not usable.
type Config struct {
	spec   Spec
	places places
	extras extras
}

// Spec returns the content of the document. All callers share it: do not change it.
func (c *Config) Spec() *Spec { return &c.spec }

// Amend returns a copy of c whose content change has modified, for facts that only a
// servicing finds out, such as the actual hash of an image with an ignored hash. Amend
// checks no rule. It does not change c; the copy keeps the unknown keys of c.
func (c *Config) Amend(change func(*Spec)) *Config {
	out := *c
	out.spec = deepCopy(reflect.ValueOf(c.spec)).Interface().(Spec)
	change(&out.spec)
	return &out
}

// Gives reports whether the document that c was parsed from has path, as in
// storage.disks[0].id, with a value. The empty text is a value.
func (c *Config) Gives(path string) bool { return c.places.gives(path) }

// Fault returns a finding of severity Error at path, with its place in the document that c
// was parsed from; name is upstream's name of the fault.
func (c *Config) Fault(path, name, message string) Finding {
	at := c.places.at(path)
	return Finding{Line: at.line, Column: at.column, Path: path, Severity: Error, Name: name, Message: message}
}

// deepCopy returns a copy of v that shares no memory with v.
func deepCopy(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(deepCopy(v.Field(i)))
		}
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return v
		}
		inner := deepCopy(v.Elem())
		if v.Kind() == reflect.Interface {
			return inner
		}
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(inner)
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(deepCopy(v.Index(i)))
		}
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for _, k := range v.MapKeys() {
			out.SetMapIndex(k, deepCopy(v.MapIndex(k)))
		}
	default:
		return v
	}
	return out
}

// place is a position in a document, from 1.
type place struct {
	line, column int
	null         bool // the place is a key whose value is empty or null
}

func placeOf(n *yaml.Node) place { return place{line: n.Line, column: n.Column} }

// places has the place of every key and list item of a document, by the path of Finding.
// The place of a list item is that of its value.
type places map[string]place

// at returns the place of path or, if the document does not have path, of the nearest
// parent that it has.
func (p places) at(path string) place {
	for {
		if pos, ok := p[path]; ok || path == "" {
			return pos
		}
		path = form.Parent(path)
	}
}

// gives reports whether the document has path with a value. The empty text is a value.
func (p places) gives(path string) bool {
	at, ok := p[path]
	return ok && !at.null
}
