package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/nearest"
)

// maxDepth is deeper than any file without a fault.
const maxDepth = 16

// strictness says what an unknown setting at the top of the file is.
type strictness bool

const (
	strict       strictness = true  // a fault
	ignoreOthers strictness = false // of another version
)

// decode reads one YAML document into a struct. A setting below the top that the struct does
// not have is always a fault.
func decode(text []byte, into any, top strictness) error {
	doc, err := load(text)
	if err != nil {
		return errkind.With(errkind.Invalid, err)
	}
	if doc == nil {
		return nil
	}
	if err := checkKeys(doc, reflect.TypeOf(into).Elem(), "", top); err != nil {
		return err
	}
	if err := doc.Decode(into); err != nil {
		return errkind.With(errkind.Invalid, errors.New(strings.Join(strings.Fields(err.Error()), " ")))
	}
	return nil
}

// load returns the only document of the text, or nil for an empty one.
func load(text []byte) (*yaml.Node, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("the text is not UTF-8")
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text), yaml.WithV4Defaults(), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, err
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("the text is not YAML: %w", err)
	}
	if err := loader.Load(&second); err == nil {
		return nil, fmt.Errorf("line %d: a second document begins, and the file must have one", second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the text is not YAML: %w", err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	return doc.Content[0], nil
}

// checkKeys fails with Invalid for the first setting below n that t does not have. at is the
// path of n.
func checkKeys(n *yaml.Node, t reflect.Type, at string, others strictness) error {
	switch {
	case n.Kind == yaml.AliasNode:
		return errkind.Errorf(errkind.Invalid, "line %d: %s is an alias, which this file must not have", n.Line, at)
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			if err := checkKeys(item, t.Elem(), fmt.Sprintf("%s[%d]", at, i), strict); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Slice && n.Tag != "!!null":
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "line %d: %s is not a list", n.Line, at), "write [first, second]")
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		return checkMapping(n, t, at, others)
	case t.Kind() == reflect.Struct && n.Tag != "!!null":
		return errkind.Errorf(errkind.Invalid, "line %d: %s is not a mapping of settings", n.Line, cmp.Or(at, "the file"))
	}
	return nil
}

func checkMapping(n *yaml.Node, t reflect.Type, at string, others strictness) error {
	fields, names := map[string]reflect.Type{}, []string{}
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("yaml")
		fields[name], names = t.Field(i).Type, append(names, name)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, path := n.Content[i], n.Content[i].Value
		if at != "" {
			path = at + "." + path
		}
		field, ok := fields[key.Value]
		switch {
		case seen[key.Value]:
			return errkind.Errorf(errkind.Invalid, "line %d: %s is there twice", key.Line, path)
		case !ok && others == ignoreOthers:
			continue
		case !ok:
			return unknownKey(key, path, names)
		}
		seen[key.Value] = true
		if err := checkKeys(n.Content[i+1], field, path, strict); err != nil {
			return err
		}
	}
	return nil
}

func unknownKey(key *yaml.Node, path string, names []string) error {
	err := errkind.Errorf(errkind.Invalid, "line %d: %.80q is not a setting", key.Line, path)
	if word := nearest.Word(key.Value, names); word != "" {
		return errkind.WithHint(err, "did you mean %s?", word)
	}
	return errkind.WithHint(err, "the settings here are %s", strings.Join(names, ", "))
}
