package hostconfig

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
	"github.com/trident-project/trident/internal/nearest"
)

// genericKind returns the kind of n where any value is allowed: a tag of YAML's core schema decides.
func genericKind(n *yaml.Node) string {
	switch form.TagOf(n) {
	case "":
		return form.KindOf(n)
	case "!!bool", "!!int", "!!float", "!!null":
		return form.KindOfText(n.Value)
	}
	return form.Text
}

func genericScalar(n *yaml.Node) any {
	switch genericKind(n) {
	case form.Null:
		return nil
	case form.Bool:
		return strings.EqualFold(n.Value, "true")
	case form.Int:
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil && strconv.FormatInt(i, 10) == n.Value {
			if form.TagOf(n) == "!!float" {
				return float64(i)
			}
			return i
		}
	case form.Float:
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
			return f
		}
	}
	return n.Value
}

// decodeScalar decodes n into v, which is not a list, mapping or pointer.
func (d *decoder) decodeScalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.addKindFault(n, v.Type(), path)
		return
	}
	known := wordsOf(v.Type())
	if known != nil && (d.lenient || slices.Contains(known, n.Value)) {
		v.SetString(n.Value)
		return
	}
	err := setScalar(v, n.Value, form.KindOf(n))
	var size errSize
	switch {
	case err == nil:
	case d.lenient && v.Kind() == reflect.String: // such as a URL that an older release accepted
		v.SetString(n.Value)
	case errors.As(err, &size):
		// Upstream reads such a size, and refuses it when it checks storage.
		d.addFault(placeOf(n), path, NameGraph, "%s", err)
	default:
		d.addFormFault(n, path, "%s", err)
	}
}

// textParser is a scalar that is read in a way of its own. kind is that of form.KindOf.
type textParser interface {
	form.Scalar
	parse(text, kind string) error
}

// setScalar parses text into v. On failure v is zero, and the error says what is wrong,
// without the text of a URL, which may have a secret.
func setScalar(v reflect.Value, text, kind string) error {
	p, ok := v.Addr().Interface().(textParser)
	if !ok {
		return setBasic(v, text, kind)
	}
	err := p.parse(text, kind)
	if err != nil {
		v.SetZero()
	}
	return err
}

// wordsOf returns the words of t, a type of text, or nil if it has any text.
func wordsOf(t reflect.Type) []string {
	if t.Kind() != reflect.String {
		return nil
	}
	v, _ := form.ValuesOf(t)
	return v.Words
}

func setBasic(v reflect.Value, text, kind string) error {
	switch v.Kind() {
	case reflect.Bool:
		if kind != form.Bool {
			return fmt.Errorf("is %q; wants true or false", form.Shorten(text))
		}
		v.SetBool(strings.EqualFold(text, "true"))
	case reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(form.Decimal(text, kind), 10, v.Type().Bits())
		if err != nil || kind != form.Int {
			return fmt.Errorf("is %q; wants a whole number from 0 to %d", form.Shorten(text), uint64(1)<<(v.Type().Bits()-1)*2-1)
		}
		v.SetUint(n)
	default:
		if known := wordsOf(v.Type()); known != nil && !slices.Contains(known, text) {
			return errors.New(notOneOf(text, known))
		}
		v.SetString(text)
	}
	return nil
}

// addKindFault adds a fault for n, which is a mapping, list or scalar where t wants another.
func (d *decoder) addKindFault(n *yaml.Node, t reflect.Type, path string) {
	d.addFormFault(n, path, "is %s; wants %s", kindName(n), wants(t))
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

// wants describes the values of type t, for messages.
func wants(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[MountPoint](), reflect.TypeFor[*MountPoint]():
		return "a path, or a mapping with path and options"
	case reflect.TypeFor[Swap]():
		return "an id, or a mapping with deviceId"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return wants(t.Elem())
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map, reflect.Interface:
		return "a mapping"
	case reflect.Bool:
		return "true or false"
	case reflect.Uint32, reflect.Uint64:
		return "a whole number"
	}
	if known := wordsOf(t); known != nil {
		return oneOf(known)
	}
	return "a single value"
}

// notOneOf returns the message for text that is not one of words, with the word that its author may have meant. text must not be a secret.
func notOneOf(text string, words []string) string {
	problem := fmt.Sprintf("is %q; wants %s", form.Shorten(text), oneOf(words))
	if near := nearest.Word(text, words); near != "" {
		problem = fmt.Sprintf("is %q; did you mean %s? wants %s", form.Shorten(text), near, oneOf(words))
	}
	return problem
}

func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return "one of " + strings.Join(words, ", ")
}
