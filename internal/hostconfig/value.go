package hostconfig

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// The kinds of scalars, as in the core schema of YAML 1.2 (section 10.3.2).
// Infinity and what is no number are text here: nothing wants them.
const (
	kindNull  = "null"
	kindBool  = "bool"
	kindInt   = "int"
	kindFloat = "float"
	kindText  = "text"
)

// scalarKind is what an unquoted scalar is.
func scalarKind(s string) string {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return kindNull
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return kindBool
	}
	if unsigned := strings.TrimPrefix(s, "-"); isDigits(unsigned) || isDigits(strings.TrimPrefix(s, "+")) {
		return kindInt
	}
	if hex, ok := strings.CutPrefix(s, "0x"); ok && isHex(hex) {
		return kindInt
	}
	if octal, ok := strings.CutPrefix(s, "0o"); ok && octal != "" && strings.Trim(octal, "01234567") == "" {
		return kindInt
	}
	if strings.Trim(s, "+-.0123456789eE") == "" {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return kindFloat
		}
	}
	return kindText
}

// decimal is the whole number text, of the given kind, as digits without more. Other text is returned as it is.
func decimal(text, kind string) string {
	if kind != kindInt {
		return text
	}
	base, digits := 10, strings.TrimPrefix(text, "+")
	if strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0o") {
		base, digits = map[byte]int{'x': 16, 'o': 8}[text[1]], text[2:]
	}
	if n, err := strconv.ParseUint(digits, base, 64); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return text
}

// plain reports whether n is written without quotes, so that its text decides what it is.
func plain(n *yaml.Node) bool {
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle
	return n.Kind == yaml.ScalarNode && n.Style&quoted == 0
}

func kindOf(n *yaml.Node) string {
	if plain(n) {
		return scalarKind(n.Value)
	}
	return kindText
}

// isNull reports whether n stands for nothing. It follows aliases.
func isNull(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return plain(n) && scalarKind(n.Value) == kindNull
}

func genericScalar(n *yaml.Node) any {
	switch kindOf(n) {
	case kindNull:
		return nil
	case kindBool:
		return strings.EqualFold(n.Value, "true")
	case kindInt:
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil && strconv.FormatInt(i, 10) == n.Value {
			return i
		}
	case kindFloat:
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
			return f
		}
	}
	return n.Value
}

// scalar decodes n into a v that is no list, mapping or pointer.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.mismatch(n, v.Type(), path)
		return
	}
	known := words(v.Type())
	if known != nil && (d.lenient || slices.Contains(known, n.Value)) {
		v.SetString(n.Value)
		return
	}
	switch problem := setScalar(v, n.Value, kindOf(n)); problem {
	case "":
	case errSize.Error():
		// Upstream reads it, and refuses it when it looks at storage.
		d.fault(place{n.Line, n.Column}, path, nameGraph, "%s", problem)
	default:
		d.wrong(n, path, "%s", problem)
	}
}

// setScalar sets v to what text says and returns "", or what is wrong with it.
// The text itself is not told, for it may be a secret.
func setScalar(v reflect.Value, text, kind string) string {
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
		err = checkURL(text)
		*p = URL(text)
	case *SourceURL:
		if err = checkURL(text); err == nil && !slices.Contains(sourceSchemes(), text[:strings.IndexByte(text, ':')]) {
			err = fmt.Errorf("wants a URL that starts with %s", strings.Join(sourceSchemes(), ", "))
		}
		*p = SourceURL(text)
	case *PartitionType:
		*p = PartitionType(text)
		if !slices.Contains(words(v.Type()), text) {
			var id UUID
			if id, err = parseUUID(text); err != nil {
				err = fmt.Errorf("wants one of %s, or a UUID", strings.Join(words(v.Type()), ", "))
			}
			*p = PartitionType(id)
		}
	default:
		return setBasic(v, text, kind)
	}
	if err != nil {
		v.SetZero()
		return err.Error()
	}
	return ""
}

func setBasic(v reflect.Value, text, kind string) string {
	switch v.Kind() {
	case reflect.Bool:
		if kind != kindBool {
			return "wants true or false"
		}
		v.SetBool(strings.EqualFold(text, "true"))
	case reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(decimal(text, kind), 10, v.Type().Bits())
		if err != nil || kind != kindInt {
			return "wants a whole number from 0 on, of at most " + strconv.Itoa(v.Type().Bits()) + " bits"
		}
		v.SetUint(n)
	default:
		if known := words(v.Type()); known != nil && !slices.Contains(known, text) {
			return fmt.Sprintf("wants %s", oneOf(known))
		}
		v.SetString(text)
	}
	return ""
}

// URL is a URL of any scheme.
type URL string

// SourceURL is where an image can be fetched from.
type SourceURL string

func sourceSchemes() []string { return []string{"http", "https", "file", "oci"} }

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || strings.ContainsFunc(text, unicode.IsSpace) || len(text) == len(u.Scheme)+1 {
		return fmt.Errorf("wants a URL, as in https://example.org/image")
	}
	return nil
}

// mismatch says that n is of the wrong kind altogether.
func (d *decoder) mismatch(n *yaml.Node, t reflect.Type, path string) {
	is := map[yaml.Kind]string{yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}[n.Kind]
	if is == "" {
		is = "a single value"
	}
	d.wrong(n, path, "is %s; wants %s", is, wants(t))
}

// wants names a type for people.
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
	case reflect.Struct, reflect.Map:
		return "a mapping"
	case reflect.Bool:
		return "true or false"
	case reflect.Uint32, reflect.Uint64:
		return "a whole number"
	}
	if known := words(t); known != nil {
		return oneOf(known)
	}
	return "a single value"
}

func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return "one of " + strings.Join(words, ", ")
}

// brief is s as it may stand in a message: on one line, not long.
func brief(s string) string {
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
