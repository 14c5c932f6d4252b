package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// format is how a result is printed; the zero value is text.
type format struct{ word string }

func (f format) String() string {
	if f.word == "" {
		return "text"
	}
	return f.word
}

func (format) Type() string { return "FORMAT" }

func (f *format) Set(s string) error {
	if !slices.Contains([]string{"text", "json", "yaml"}, s) {
		return errors.New("it must be text, json or yaml")
	}
	f.word = s
	return nil
}

// show prints a result: value as JSON or YAML, or what text writes, in which
// tabs make columns. A message of the API is printed in the JSON mapping of
// protobuf, so that its definition is the documentation.
func (a *app) show(value any, text func(io.Writer)) error {
	if a.output.String() == "text" {
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		text(w)
		return w.Flush()
	}
	out, err := marshal(value)
	if err == nil && a.output.String() == "yaml" {
		out, err = yamlOf(out)
	}
	if err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	_, err = a.stdout.Write(out)
	return err
}

// marshal indents by itself, because protojson's white space is not stable.
func marshal(value any) (out []byte, err error) {
	if m, ok := value.(proto.Message); ok {
		value, err = rawMessage(m)
		if err != nil {
			return nil, err
		}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err = enc.Encode(value)
	return buf.Bytes(), err
}

// rawList is a list of messages for show.
func rawList[M proto.Message](messages []M) ([]json.RawMessage, error) {
	list := make([]json.RawMessage, len(messages))
	for i, m := range messages {
		raw, err := rawMessage(m)
		if err != nil {
			return nil, err
		}
		list[i] = raw
	}
	return list, nil
}

func rawMessage(m proto.Message) (json.RawMessage, error) {
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
	return buf.Bytes(), err
}

func block(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		block(c)
	}
}

// size is a number of bytes for people.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// line makes a text from outside fit for one line of a terminal: no control
// characters, which could move the cursor or fake other lines.
func line(s string) string {
	return strings.ReplaceAll(lines(s), "\n", " ")
}

// lines is line for a text that may have several.
func lines(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r != '\n' && (r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0)):
			return '?'
		}
		return r
	}, s)
}
