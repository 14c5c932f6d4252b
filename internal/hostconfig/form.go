package hostconfig

import (
	"reflect"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
	"github.com/trident-project/trident/internal/nearest"
)

// checkForm adds faults of the decoded mapping v that concern two of its keys together.
// schema.formSchema states the same rules.
func (d *decoder) checkForm(v reflect.Value, path string) {
	switch x := v.Interface().(type) {
	case Script:
		_, content := d.places[form.Join(path, "content")]
		_, file := d.places[form.Join(path, "path")]
		switch {
		case content && file, x.Content == nil && x.Path == "":
			d.addFault(d.places.at(path), path, NameParse, "wants exactly one of content and path")
		}
	case Filesystem:
		at := form.Join(path, "type")
		if esp := form.Join(path, "overrideEspMount"); x.OverrideESPMount == ESPOverride && x.MountPoint == nil {
			d.addFault(d.places.at(esp), esp, NameParse, "makes this the EFI system partition, which needs a mountPoint")
		}
		switch {
		case x.Type == "":
		case x.Source == FromImage:
			d.addFault(d.places.at(at), at, NameParse, "may not be given with source image: the image says what it is")
		case (x.Type == Tmpfs || x.Type == Overlay) && x.Source != FromNew:
			d.addFault(d.places.at(at), at, NameParse, "may be %s with source new only", x.Type)
		case (x.Type == Auto || x.Type == ISO9660) && x.Source != FromAdopted:
			d.addFault(d.places.at(at), at, NameParse, "may be %s with source adopted only", x.Type)
		}
	}
}

// unlocksLogin reports whether the password n would let somebody log in. No part of n
// may appear in a message.
func unlocksLogin(n *yaml.Node) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		value := n.Content[i+1]
		if n.Content[i].Value == "type" && !form.IsNull(value) && value.Value != string(PasswordLocked) {
			return true
		}
	}
	return false
}

// nearestKey returns the known key that the author of key most likely meant, or "".
func nearestKey(key string, known []form.Member) string {
	keys := make([]string, len(known))
	for i, f := range known {
		keys[i] = f.Key
	}
	return nearest.Word(key, keys)
}
