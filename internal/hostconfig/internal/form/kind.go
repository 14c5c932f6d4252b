package form

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// The kinds of scalars, as in the core schema of YAML 1.2 (section 10.3.2).
// Infinity and NaN are text here: no key accepts them.
const (
	Null  = "null"
	Bool  = "bool"
	Int   = "int"
	Float = "float"
	Text  = "text"
)

// KindOfText returns the kind of an unquoted scalar.
func KindOfText(s string) string {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return Null
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return Bool
	}
	if _, digits, base := splitInt(s); digits != "" {
		// A number with a leading zero, such as a file mode, is text.
		if base == 10 && len(digits) > 1 && digits[0] == '0' {
			return Text
		}
		return Int
	}
	if strings.Trim(s, "+-.0123456789eE") == "" {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return Float
		}
	}
	return Text
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

// Decimal returns a whole number (kind is Int) as decimal digits, with a minus if it
// is negative. It returns other text unchanged.
func Decimal(text, kind string) string {
	if kind != Int {
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

// Plain reports whether n is written without quotes, so that its text decides its kind.
func Plain(n *yaml.Node) bool {
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	return n.Kind == yaml.ScalarNode && n.Style&quoted == 0
}

// TagOf is the tag that n is written with, or "".
func TagOf(n *yaml.Node) string {
	if n.Style&yaml.TaggedStyle == 0 {
		return ""
	}
	return n.ShortTag()
}

// KindOf returns the kind of n, the value of a key with a Go type. It ignores tags, as upstream does.
func KindOf(n *yaml.Node) string {
	if Plain(n) {
		return KindOfText(n.Value)
	}
	return Text
}

// IsNull reports whether n is empty or null. It follows aliases.
func IsNull(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	tag := TagOf(n)
	return Plain(n) && KindOfText(n.Value) == Null && (tag == "" || tag == "!!null" && n.Value != "")
}
