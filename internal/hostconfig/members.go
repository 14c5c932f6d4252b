package hostconfig

import (
	"reflect"
	"strings"
)

// member is one key of a mapping, out of the tags of the Go struct.
type member struct {
	index    int
	key      string
	required bool
	nullable bool   // null stands for a missing key, as upstream has it
	printed  bool   // Config.YAMLWithDefaults has it though it is at its default
	file     bool   // the path of a file: given and empty is not the same as left out
	deflt    string // "" when a missing key means the zero value
}

func members(t reflect.Type) []member {
	out := make([]member, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		key, option, _ := strings.Cut(f.Tag.Get("key"), ",")
		out = append(out, member{i, key, option == "required", option == "null", f.Tag.Get("get") == "always", f.Tag.Get("is") == "file", f.Tag.Get("default")})
	}
	return out
}

// short is the key that a value of type t may have as a string in place of a
// whole mapping, or "".
func short(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[MountPoint]():
		return "path"
	case reflect.TypeFor[Swap]():
		return "deviceId"
	}
	return ""
}

// systemdKey makes a health check a SystemdCheck.
const systemdKey = "systemdServices"

// setDefaults gives v what a document without any of its keys means.
func setDefaults(v reflect.Value) {
	for _, f := range members(v.Type()) {
		setDefault(f, v.Field(f.index))
	}
}

func setDefault(f member, v reflect.Value) {
	switch {
	case v.Kind() == reflect.Struct:
		setDefaults(v)
	case f.deflt != "":
		// The tags are ours: a test decodes an empty mapping for every type.
		if err := setScalar(v, f.deflt, scalarKind(f.deflt)); err != nil {
			panic("hostconfig: default of " + f.key + " " + err.Error())
		}
	}
}
