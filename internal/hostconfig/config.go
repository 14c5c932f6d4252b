package hostconfig

import (
	"reflect"

	"go.yaml.in/yaml/v4"
)

// Config is a document without a fault. Its zero value is not one.
type Config struct {
	spec   Spec
	places places
	extras extras
}

// Spec is the content of the document. It is shared: nobody changes it.
func (c *Config) Spec() *Spec { return &c.spec }

// Amend is c with what change does to its content: what only a servicing finds
// out, as the hash of an image that was asked for as ignored. No rule is looked
// at again. c stays as it is; what c has under keys that are not known goes to
// the same places.
func (c *Config) Amend(change func(*Spec)) *Config {
	out := *c
	out.spec = deepCopy(reflect.ValueOf(c.spec)).Interface().(Spec)
	change(&out.spec)
	return &out
}

// deepCopy is v without anything in common with it.
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
	null         bool // what is there is a key whose value is empty or null
}

func placeOf(n *yaml.Node) place { return place{line: n.Line, column: n.Column} }

// places is where in the document every key and list item is, by path: the
// paths of Finding. A key's place is that of the key, an item's that of its value.
type places map[string]place

// at is where path is, or the nearest thing above it that is in the document.
func (p places) at(path string) place {
	for {
		if pos, ok := p[path]; ok || path == "" {
			return pos
		}
		path = parent(path)
	}
}

// gives reports whether the document has path, with a value, though it may be the empty text.
func (p places) gives(path string) bool {
	at, ok := p[path]
	return ok && !at.null
}

// fault is a finding of severity Error at path.
func (p places) fault(path, name, message string) Finding {
	pos := p.at(path)
	return Finding{Line: pos.line, Column: pos.column, Path: path, Severity: Error, Name: name, Message: message}
}

// parent cuts the last key or index off path.
func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '.' || path[i] == '[' {
			return path[:i]
		}
	}
	return ""
}
