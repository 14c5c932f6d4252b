package connect

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/nearest"
)

// reader fills a Config from nodes, and keeps the first error.
type reader struct {
	warnings []Warning
	err      error
}

func (r *reader) failf(at string, n *yaml.Node, format string, args ...any) {
	if r.err != nil {
		return
	}
	place := at
	if n != nil {
		place = fmt.Sprintf("%s (line %d)", cmp.Or(at, "the document"), n.Line)
	}
	r.err = errkind.Errorf(errkind.Invalid, "%s: %s", place, fmt.Sprintf(format, args...))
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// mapping calls the function of each key. It fails for a key that is there twice.
func (r *reader) mapping(at string, n *yaml.Node, fields map[string]func(string, *yaml.Node)) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.failf(at, n, "must have keys and values")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		here := strings.TrimPrefix(at+"."+key.Value, ".")
		set, known := fields[key.Value]
		switch {
		case seen[key.Value]:
			r.failf(shorten(here), key, "the key is there twice")
		case !known:
			r.unknown(shorten(here), key, slices.Sorted(maps.Keys(fields)))
		case !isNull(value):
			set(here, value)
		}
		seen[key.Value] = true
	}
}

func shorten(text string) string {
	if len(text) > 80 {
		return text[:80] + "…"
	}
	return text
}

func (r *reader) unknown(at string, key *yaml.Node, known []string) {
	text := fmt.Sprintf("%q (line %d) is not a key of this configuration, and is ignored", at, key.Line)
	if word := nearest.Word(key.Value, known); word != "" {
		text += fmt.Sprintf("; did you mean %q?", word)
	}
	r.warnings = append(r.warnings, Warning(text))
}

func (r *reader) text(to *string) func(string, *yaml.Node) {
	return func(at string, n *yaml.Node) {
		if n.Kind != yaml.ScalarNode {
			r.failf(at, n, "must be a text")
			return
		}
		if strings.ContainsFunc(n.Value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			r.failf(at, n, "must not have control characters")
			return
		}
		*to = n.Value
	}
}

// pem reads base64 of PEM. Its errors do not have the value, which may be a private key.
func (r *reader) pem(to *[]byte) func(string, *yaml.Node) {
	return func(at string, n *yaml.Node) {
		if n.Kind != yaml.ScalarNode {
			r.failf(at, n, "must be a text")
			return
		}
		data, err := base64.StdEncoding.DecodeString(n.Value)
		switch {
		case err != nil && strings.Contains(n.Value, "-----BEGIN"):
			r.failf(at, n, "is PEM, and must be base64 of PEM (base64 -w0 FILE)")
		case err != nil:
			r.failf(at, n, "must be base64 of PEM")
		default:
			*to = data
		}
	}
}

func (r *reader) duration(to *time.Duration) func(string, *yaml.Node) {
	return func(at string, n *yaml.Node) {
		d, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || d < 100*time.Millisecond || d > time.Hour {
			r.failf(at, n, "must be a time from 100ms to 1h, such as 5s")
			return
		}
		*to = d
	}
}

// mode reads a mode as upstream does: a YAML number, so that 493 and 0755 are the same.
func (r *reader) mode(to *fs.FileMode) func(string, *yaml.Node) {
	return func(at string, n *yaml.Node) {
		var number uint32
		if n.Kind != yaml.ScalarNode || n.Decode(&number) != nil {
			r.failf(at, n, "must be a number such as 0755 (octal) or 493 (decimal)")
			return
		}
		if number > 0o777 {
			r.failf(at, n, "%d is more than 0777 (511): write an octal number with a leading 0", number)
			return
		}
		*to = fs.FileMode(number)
	}
}

func (r *reader) size(to *int64) func(string, *yaml.Node) {
	return func(at string, n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Decode(to) != nil || *to < 1 {
			r.failf(at, n, "must be a number of bytes above 0")
		}
	}
}
