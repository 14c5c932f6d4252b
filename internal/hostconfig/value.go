package hostconfig

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// The kinds of scalars, as in the core schema of YAML 1.2 (section 10.3.2).
// Infinity and NaN are text here: no key accepts them.
const (
	kindNull  = "null"
	kindBool  = "bool"
	kindInt   = "int"
	kindFloat = "float"
	kindText  = "text"
)

// scalarKind returns the kind of an unquoted scalar.
func scalarKind(s string) string {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return kindNull
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return kindBool
	}
	if _, digits, base := splitInt(s); digits != "" {
		// A number with a leading zero, such as a file mode, is text.
		if base == 10 && len(digits) > 1 && digits[0] == '0' {
			return kindText
		}
		return kindInt
	}
	if strings.Trim(s, "+-.0123456789eE") == "" {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return kindFloat
		}
	}
	return kindText
}

// splitInt splits a whole number, in the forms that upstream's YAML library accepts, into
// sign, digits and base. digits is "" for other text.
func splitInt(s string) (negative bool, digits string, base int) {
	digits, negative = strings.CutPrefix(s, "-")
	if !negative {
		digits = strings.TrimPrefix(s, "+")
	}
	base, allowed := 10, "0123456789"
	if len(digits) > 2 && digits[0] == '0' {
		switch digits[1] {
		case 'x':
			base, allowed = 16, "0123456789abcdefABCDEF"
		case 'o':
			base, allowed = 8, "01234567"
		case 'b':
			base, allowed = 2, "01"
		}
		if base != 10 {
			digits = digits[2:]
		}
	}
	if strings.Trim(digits, allowed) != "" {
		return false, "", 0
	}
	return negative, digits, base
}

// decimal returns a whole number (kind is kindInt) as decimal digits, with a minus if it
// is negative. It returns other text unchanged.
func decimal(text, kind string) string {
	if kind != kindInt {
		return text
	}
	negative, digits, base := splitInt(text)
	n, err := strconv.ParseUint(digits, base, 64)
	if err != nil {
		return text
	}
	if negative && n > 0 {
		return "-" + strconv.FormatUint(n, 10)
	}
	return strconv.FormatUint(n, 10)
}

// plain reports whether n is written without quotes, so that its text decides its kind.
func plain(n *yaml.Node) bool {
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	return n.Kind == yaml.ScalarNode && n.Style&quoted == 0
}

// tagOf is the tag that n is written with, or "".
func tagOf(n *yaml.Node) string {
	if n.Style&yaml.TaggedStyle == 0 {
		return ""
	}
	return n.ShortTag()
}

// kindOf returns the kind of n, the value of a key with a Go type. It ignores tags, as upstream does.
func kindOf(n *yaml.Node) string {
	if plain(n) {
		return scalarKind(n.Value)
	}
	return kindText
}

// isNull reports whether n is empty or null. It follows aliases.
func isNull(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	tag := tagOf(n)
	return plain(n) && scalarKind(n.Value) == kindNull && (tag == "" || tag == "!!null" && n.Value != "")
}

// genericKind returns the kind of n where any value is allowed: a tag of YAML's core schema decides.
func genericKind(n *yaml.Node) string {
	switch tagOf(n) {
	case "":
		return kindOf(n)
	case "!!bool", "!!int", "!!float", "!!null":
		return scalarKind(n.Value)
	}
	return kindText
}

func genericScalar(n *yaml.Node) any {
	switch genericKind(n) {
	case kindNull:
		return nil
	case kindBool:
		return strings.EqualFold(n.Value, "true")
	case kindInt:
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil && strconv.FormatInt(i, 10) == n.Value {
			if tagOf(n) == "!!float" {
				return float64(i)
			}
			return i
		}
	case kindFloat:
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
	if d.foreign && known == nil {
		known = netplanWords(v.Type())
	}
	if known != nil && (d.lenient || slices.Contains(known, n.Value)) {
		v.SetString(n.Value)
		return
	}
	if d.foreign && known != nil {
		d.addFormFault(n, path, "wants %s", oneOf(known)) // the value may be a secret
		return
	}
	err := setScalar(v, n.Value, kindOf(n))
	var size errSize
	switch {
	case err == nil:
	case d.lenient && v.Kind() == reflect.String: // such as a URL that an older release accepted
		v.SetString(n.Value)
	case errors.As(err, &size):
		// Upstream reads such a size, and refuses it when it checks storage.
		d.addFault(placeOf(n), path, nameGraph, "%s", err)
	default:
		d.addFormFault(n, path, "%s", err)
	}
}

// setScalar parses text into v. On failure v is zero, and the error says what is wrong,
// without the text of a URL, which may have a secret.
func setScalar(v reflect.Value, text, kind string) error {
	var err error
	switch p := v.Addr().Interface().(type) {
	case *Size:
		*p, err = parseSize(decimal(text, kind))
	case *PCR:
		*p, err = parsePCR(decimal(text, kind), kind == kindInt)
	case *UUID:
		*p, err = parseUUID(text)
	case *Hash:
		*p, err = parseHash(text)
	case *ImageHash:
		if *p = HashIgnored; text != string(HashIgnored) {
			var h Hash
			if h, err = parseHash(text); err != nil {
				err = fmt.Errorf("%w, or the word ignored", err)
			}
			*p = ImageHash(h)
		}
	case *URL:
		text, _, err = parseURL(text)
		*p = URL(text)
	case *SourceURL:
		var scheme string
		if text, scheme, err = parseURL(text); err == nil && !slices.Contains(sourceSchemes(), scheme) {
			err = fmt.Errorf("has the scheme %s; wants a URL that starts with %s://", shorten(scheme), strings.Join(sourceSchemes(), "://, "))
		}
		*p = SourceURL(text)
	case *UserID:
		*p, err = parseUserID(decimal(text, kind), kind == kindInt)
	case *PartitionType:
		*p = PartitionType(text)
		if !slices.Contains(wordsOf(v.Type()), text) {
			var id UUID
			if id, err = parseUUID(text); err != nil {
				err = fmt.Errorf("%s, or a UUID", notOneOf(text, wordsOf(v.Type())))
			}
			*p = PartitionType(id)
		}
	default:
		return setBasic(v, text, kind)
	}
	if err != nil {
		v.SetZero()
	}
	return err
}

func setBasic(v reflect.Value, text, kind string) error {
	switch v.Kind() {
	case reflect.Bool:
		if kind != kindBool {
			return fmt.Errorf("is %q; wants true or false", shorten(text))
		}
		v.SetBool(strings.EqualFold(text, "true"))
	case reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(decimal(text, kind), 10, v.Type().Bits())
		if err != nil || kind != kindInt {
			return fmt.Errorf("is %q; wants a whole number from 0 to %d", shorten(text), uint64(1)<<(v.Type().Bits()-1)*2-1)
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

// URL is a URL of any scheme.
type URL string

// SourceURL is a URL from which Trident can fetch an image.
type SourceURL string

func sourceSchemes() []string { return []string{"http", "https", "file", "oci"} }

// addKindFault adds a fault for n, which is a mapping, list or scalar where t wants another.
func (d *decoder) addKindFault(n *yaml.Node, t reflect.Type, path string) {
	is := map[yaml.Kind]string{yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}[n.Kind]
	if is == "" {
		is = "a single value"
	}
	d.addFormFault(n, path, "is %s; wants %s", is, wants(t))
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
	problem := fmt.Sprintf("is %q; wants %s", shorten(text), oneOf(words))
	if near := nearestWord(text, words); near != "" {
		problem = fmt.Sprintf("is %q; did you mean %s? wants %s", shorten(text), near, oneOf(words))
	}
	return problem
}

func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return "one of " + strings.Join(words, ", ")
}

// shorten returns s for a message: on one line, at most 60 characters.
func shorten(s string) string {
	const most = 60
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
