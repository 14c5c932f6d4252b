package settingsfile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/nearest"
)

// Keys has the function that reads the value of each key of a mapping. The function of the key
// [Others] reads the values of all keys that have none of their own.
type Keys map[string]func(Value) error

// Others stands for all keys that Keys does not name. Without it such a key is a fault, with
// the name that was most likely meant as its hint.
const Others = ""

// Ignore accepts a value without a look at it.
func Ignore(Value) error { return nil }

// Read calls the functions of keys for the keys of a mapping, in the order of the file. It
// fails for a value that is not a mapping, and for a key that is unknown or there twice. A
// mapping without a value has no keys.
func (v Value) Read(keys Keys) error {
	if v.isNull() {
		return nil
	}
	if !v.IsMapping() {
		return v.Errorf("is not a mapping of keys to values")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.node.Content[i]
		if key.Kind != yaml.ScalarNode || v.foreign == nil && key.ShortTag() == "!!merge" {
			v.line = key.Line
			return v.Errorf("has a key that is not a text")
		}
		value := Value{v.node.Content[i+1], key.Value, join(v.path, key.Value), key.Line, v.foreign}
		if seen[key.Value] {
			return value.Errorf("is there twice")
		}
		seen[key.Value] = true
		if err := value.readAs(keys); err != nil {
			return err
		}
	}
	return nil
}

// readAs reads the value of a key of keys.
func (v Value) readAs(keys Keys) error {
	read := keys[v.name]
	if read == nil {
		read = keys[Others]
	}
	if read == nil && v.foreign == nil {
		return v.unknownKey(keys)
	}
	if read == nil {
		v.foreign(v.unknownKey(keys))
		return nil
	}
	value, err := v.resolve()
	if err != nil || v.foreign != nil && value.isNull() {
		return err
	}
	return read(value)
}

func (v Value) unknownKey(keys Keys) error {
	err, names := v.Errorf("is not a setting"), slices.Sorted(maps.Keys(keys))
	if word := nearest.Word(v.name, names); word != "" {
		return errkind.WithHint(err, "did you mean %s?", word)
	}
	return errkind.WithHint(err, "the settings here are %s", strings.Join(names, ", "))
}

// join adds a key to a path. A key that is not a plain word is quoted, and cut if it is long.
func join(path, key string) string {
	if len(key) > 60 || strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" || key == "" {
		key = strconv.Quote(fmt.Sprintf("%.60s", key))
	}
	return strings.TrimPrefix(path+"."+key, ".")
}
