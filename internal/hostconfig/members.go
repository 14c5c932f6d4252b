package hostconfig

import (
	"reflect"
	"strings"
)

// member is one key of a mapping, read from the tags of a field (types.go).
type member struct {
	index    int
	key      string
	required bool
	nullable bool   // null means the same as a missing key, as for upstream
	printed  bool   // Config.YAMLWithDefaults writes the key also at its default
	file     bool   // the path of a file, for which empty differs from missing
	deflt    string // the default; "" if it is the zero value
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

// short returns the key of t whose value alone, as a string, is the short form of the
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

// setDefaults sets all keys of v to their defaults.
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
		// Only a wrong tag in this package gets here; a test decodes an empty mapping for every type.
		if err := setScalar(v, f.deflt, scalarKind(f.deflt)); err != nil {
			panic("hostconfig: default of " + f.key + " " + err.Error())
		}
	}
}
