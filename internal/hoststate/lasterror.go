package hoststate

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
)

// A LastError is why the last servicing of the host failed, in upstream's form
// (reference, 1.3).
type LastError struct {
	Message  string
	Name     string // upstream's "error": the variant in kebab case
	Category string // in kebab case
	Location string // file:line in our source
	Cause    string
	// RootDevice and ExpectedDevice are what was booted, and what was to be booted, of
	// the errors whose names end in reboot-check; upstream's have them as values.
	RootDevice, ExpectedDevice string

	raw *yaml.Node // as it was found
}

// NewLastError puts an error into that form. NewLastError(nil) is nil.
func NewLastError(err error) *LastError {
	if err == nil {
		return nil
	}
	name := errkind.NameOf(err)
	e := &LastError{Message: err.Error(), Name: name.Subkind(), Category: errkind.Name{Variant: string(name.Category)}.Subkind()}
	if file, line := errkind.Location(err); file != "" {
		e.Location = fmt.Sprintf("%s:%d", file, line)
	}
	return e
}

// lastErrorOf reads what upstream wrote, which has names with values in them
// too, and may be of any shape at all.
func lastErrorOf(n *yaml.Node) *LastError {
	e := &LastError{raw: n}
	if n.Kind != yaml.MappingNode {
		e.Message = n.Value
		return e
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		value := n.Content[i+1]
		switch n.Content[i].Value {
		case "message":
			e.Message = scalar(value)
		case "error":
			e.Name = variant(value)
			e.RootDevice, e.ExpectedDevice = scalarIn(value, rootDevice), scalarIn(value, expectedDevice)
		case "category":
			e.Category = scalar(value)
		case "location":
			e.Location = scalar(value)
		case "cause":
			e.Cause = scalar(value)
		}
	}
	return e
}

// The values of a reboot check.
const (
	rootDevice     = "root_device_path"
	expectedDevice = "expected_device_path"
)

// scalarIn is the value of a key of a mapping, if it is a scalar.
func scalarIn(n *yaml.Node, key string) string {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return scalar(n.Content[i+1])
		}
	}
	return ""
}

func scalar(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		return ""
	}
	return n.Value
}

// variant is the name of an enumeration's value, which may come with content: as
// a tag or as the one key of a mapping.
func variant(n *yaml.Node) string {
	if tag := n.Tag; strings.HasPrefix(tag, "!") && !strings.HasPrefix(tag, "!!") {
		return tag[1:]
	}
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 {
		return n.Content[0].Value
	}
	return scalar(n)
}

// node is the error as upstream writes it; one that was read is written as it
// was.
func (e LastError) node() *yaml.Node {
	if e.raw != nil {
		original := *lastErrorOf(e.raw)
		if original == e {
			return e.raw
		}
	}
	m := &yaml.Node{Kind: yaml.MappingNode}
	putField(m, "message", textNode(e.Message))
	putField(m, "error", e.nameNode())
	putField(m, "category", textNode(e.Category))
	putField(m, "location", textNode(e.Location))
	if e.Cause == "" {
		putField(m, "cause", nullNode())
	} else {
		putField(m, "cause", textNode(e.Cause))
	}
	return m
}

// nameNode is the name, with its values where upstream's has some.
func (e LastError) nameNode() *yaml.Node {
	if e.RootDevice == "" && e.ExpectedDevice == "" {
		return textNode(e.Name)
	}
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!" + e.Name}
	putField(n, rootDevice, textNode(e.RootDevice))
	putField(n, expectedDevice, textNode(e.ExpectedDevice))
	return n
}
