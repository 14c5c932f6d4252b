package terminal

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Format is how a result is printed: text, json, yaml or wide. The zero value is text.
type Format string

// wide is the text with all columns, which a terminal does not cut.
const wide Format = "wide"

// String returns "text" for wide, too: only IsWide tells them apart.
func (f Format) String() string {
	if f == wide {
		return "text"
	}
	return cmp.Or(string(f), "text")
}

// IsWide reports whether a table has all columns, and is not cut to the width of the terminal.
func (f Format) IsWide() bool { return f == wide }

func (Format) Type() string { return "FORMAT" }

func (f *Format) Set(s string) error {
	if !slices.Contains([]string{"text", "json", "yaml", string(wide)}, s) {
		return errors.New("it must be text, wide, json or yaml")
	}
	*f = Format(s)
	return nil
}

// Show prints a result: value as JSON or YAML, or what text puts into a table. A
// message of the API is printed in the JSON mapping of protobuf, so that its
// definition is the documentation.
func (s *Streams) Show(value any, text func(*Table)) error {
	t := &Table{screen: s.tableScreen()}
	if s.Output.String() == "text" {
		text(t)
	}
	switch {
	case s.host != nil:
		return s.host.show(value, t)
	case s.Output.String() == "text":
		return t.writeTo(s.Stdout)
	}
	out, err := Marshal(value)
	if err == nil && s.Output == "yaml" {
		out, err = yamlOf(out)
	}
	if err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	_, err = s.Stdout.Write(out)
	return err
}

// tableScreen returns the screen of a table: one without limits if it is wide.
func (s *Streams) tableScreen() Screen {
	if s.Output.IsWide() {
		return Screen{colour: s.Out.colour}
	}
	return s.Out
}

// Marshal returns value as indented JSON.
func Marshal(value any) ([]byte, error) { return encode(value, "  ") }

// encode returns value as JSON, and formats a message itself, because protojson's white
// space is not stable.
func encode(value any, indent string) (out []byte, err error) {
	if m, ok := value.(proto.Message); ok {
		value, err = RawMessage(m)
		if err != nil {
			return nil, err
		}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err = enc.Encode(value)
	return visible(buf.Bytes(), escapedPair), err
}

// escapedPair is a character above U+FFFF as JSON escapes it (RFC 8259, 7).
func escapedPair(r rune) string {
	high, low := utf16.EncodeRune(r)
	return fmt.Sprintf("\\u%04x\\u%04x", high, low)
}

// visible returns JSON, or YAML with quotes around such texts, in which the characters
// that a terminal would act on, or not show, are escaped. long escapes those above
// U+FFFF.
func visible(text []byte, long func(rune) string) []byte {
	if !bytes.ContainsFunc(text, invisible) {
		return text
	}
	var out bytes.Buffer
	for _, r := range string(text) {
		switch {
		case !invisible(r):
			out.WriteRune(r)
		case r > 0xffff:
			out.WriteString(long(r))
		default:
			fmt.Fprintf(&out, "\\u%04x", r)
		}
	}
	return out.Bytes()
}

func invisible(r rune) bool { return r != '\n' && isInvisible(r) }

// RawList returns messages as JSON, for a result that is a list of them.
func RawList[M proto.Message](messages []M) ([]json.RawMessage, error) {
	list := make([]json.RawMessage, len(messages))
	for i, m := range messages {
		raw, err := RawMessage(m)
		if err != nil {
			return nil, err
		}
		list[i] = raw
	}
	return list, nil
}

func RawMessage(m proto.Message) (json.RawMessage, error) {
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
}

// yamlOf turns JSON, which is YAML, into the YAML that people write; the order
// of the keys stays.
func yamlOf(text []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	block(&doc)
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	err := errors.Join(enc.Encode(&doc), enc.Close())
	return visible(buf.Bytes(), func(r rune) string { return fmt.Sprintf("\\U%08x", r) }), err
}

func block(n *yaml.Node) {
	n.Style = 0
	if strings.ContainsFunc(n.Value, invisible) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		block(c)
	}
}
