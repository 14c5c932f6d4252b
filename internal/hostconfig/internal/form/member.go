package form

import (
	"reflect"
	"strings"
)

// Member is one key of a mapping, read from the tags of a field (hostconfig/types.go).
type Member struct {
	Index    int
	Key      string
	Required bool
	Nullable bool   // null means the same as a missing key, as for upstream
	Printed  bool   // Config.YAMLWithDefaults writes the key also at its default
	File     bool   // the path of a file, for which empty differs from missing
	Short    bool   // the value alone, as a string, is the short form of the whole mapping
	Default  string // "" if it is the zero value
}

// Members returns the keys of the mappings that the struct type t is decoded from.
func Members(t reflect.Type) []Member {
	out := make([]Member, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		key, option, _ := strings.Cut(f.Tag.Get("key"), ",")
		is := f.Tag.Get("is")
		out = append(out, Member{i, key, option == "required", option == "null", f.Tag.Get("get") == "always", is == "file", is == "short", f.Tag.Get("default")})
	}
	return out
}

// Short returns the key whose value alone is the short form of a mapping of type t, or ""
// if there is none or t is not a struct.
func Short(t reflect.Type) string {
	if t.Kind() == reflect.Struct {
		for _, m := range Members(t) {
			if m.Short {
				return m.Key
			}
		}
	}
	return ""
}
