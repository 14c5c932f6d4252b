package hostconfig

import (
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
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

// nearest returns the known key that the author of key most likely meant, or "".
func nearest(key string, known []form.Member) string {
	keys := make([]string, len(known))
	for i, f := range known {
		keys[i] = f.Key
	}
	return nearestWord(key, keys)
}

// nearestWord returns the word that the author of text most likely meant, or "".
func nearestWord(text string, words []string) string {
	best, least := "", 3
	for _, w := range words {
		if n := distance(strings.ToLower(text), strings.ToLower(w)); n < least && n < len(w) {
			best, least = w, n
		}
	}
	return best
}

// distance returns the number of bytes to add, remove or change to turn a into b
// (Levenshtein), or 4 if the lengths differ by more than 3.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 3 || d < -3 {
		return 4
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
