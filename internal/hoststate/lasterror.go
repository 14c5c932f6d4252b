package hoststate

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
)

// A LastError says why the last servicing of the host failed, in the form of
// upstream's lastError.
type LastError struct {
	Message  string
	Name     string // upstream's "error": the variant in kebab case
	Category string // in kebab case
	Location string // file:line in our source
	Cause    string
	// RootDevice and ExpectedDevice are the booted device and the expected one, for
	// the errors whose names end in reboot-check. Upstream writes them as values of
	// the error.
	RootDevice, ExpectedDevice string

	raw *yaml.Node // as it was read
}

// NewLastError converts an error. NewLastError(nil) is nil.
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

// lastErrorOf reads a lastError of upstream, whose names may contain values, and
// which may have any shape.
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

// scalarIn returns the value of a key of a mapping, or "" if the value is not a
// scalar.
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

// variant returns the name of an enumeration's value. A value with content is a
// tag, or the only key of a mapping.
func variant(n *yaml.Node) string {
	if tag := n.Tag; strings.HasPrefix(tag, "!") && !strings.HasPrefix(tag, "!!") {
		return tag[1:]
	}
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 {
		return n.Content[0].Value
	}
	return scalar(n)
}

// node returns the error as upstream writes it. An error that was read and not
// changed is returned as it was read.
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

// nameNode returns the name, with its values if it has any.
func (e LastError) nameNode() *yaml.Node {
	if e.RootDevice == "" && e.ExpectedDevice == "" {
		return textNode(e.Name)
	}
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!" + e.Name}
	putField(n, rootDevice, textNode(e.RootDevice))
	putField(n, expectedDevice, textNode(e.ExpectedDevice))
	return n
}
