package hoststate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
)

var (
	errNotMapping = errors.New("the value is not a mapping")
	errNotText    = errors.New("the value is not a scalar")
)

// parseSpec parses a Host Configuration, so that it can be embedded in a status.
func parseSpec(spec string) (*yaml.Node, error) {
	if strings.TrimSpace(spec) == "" {
		return &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}, nil
	}
	m, err := parseMapping([]byte(spec))
	return m, errkind.With(errkind.Invalid, err)
}

func specText(n *yaml.Node) (string, error) {
	if n.Kind != yaml.MappingNode {
		return "", errNotMapping
	}
	if len(n.Content) == 0 {
		return "", nil
	}
	out, err := dump(n)
	return string(out), err
}

// parseMapping parses a document that is a mapping. It drops comments and refuses
// aliases: no release writes aliases, and a part of a document with aliases cannot
// be taken out of the document.
func parseMapping(data []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Load(data, &doc); err != nil {
		return nil, fmt.Errorf("the text is not YAML: %w", err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errNotMapping
	}
	return doc.Content[0], checkPlain(doc.Content[0])
}

func checkPlain(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		return fmt.Errorf("line %d: aliases are not allowed", n.Line)
	}
	n.Anchor, n.HeadComment, n.LineComment, n.FootComment = "", "", "", ""
	for _, c := range n.Content {
		if err := checkPlain(c); err != nil {
			return err
		}
	}
	return nil
}

func dump(n *yaml.Node) ([]byte, error) { return yaml.Dump(n, yaml.WithLineWidth(-1)) }

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func textNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

func nullNode() *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"} }

func intNode(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)}
}

func putField(m *yaml.Node, key string, value *yaml.Node) {
	m.Content = append(m.Content, textNode(key), value)
}

func putMap(m *yaml.Node, key string, values map[string]string) {
	if len(values) == 0 {
		return
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, k := range slices.Sorted(maps.Keys(values)) {
		putField(n, k, textNode(values[k]))
	}
	putField(m, key, n)
}

func stringMap(n *yaml.Node) (map[string]string, error) {
	if n.Kind != yaml.MappingNode {
		return nil, errNotMapping
	}
	out := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Kind != yaml.ScalarNode || n.Content[i+1].Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: %w", n.Content[i].Line, errNotText)
		}
		out[n.Content[i].Value] = n.Content[i+1].Value
	}
	return out, nil
}
