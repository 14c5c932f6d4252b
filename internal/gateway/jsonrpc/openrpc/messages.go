package openrpc

import (
	"maps"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Messages makes schemas of messages. Each message is a component of the document, to which other
// schemas refer.
type Messages struct {
	omitted  map[protoreflect.FullName]bool
	replaced map[protoreflect.FullName]Schema
	schemas  map[string]Schema
}

// NewMessages returns a Messages without schemas. It leaves the named fields out of those that it
// makes.
func NewMessages(omit ...protoreflect.FullName) *Messages {
	m := &Messages{omitted: map[protoreflect.FullName]bool{}, replaced: map[protoreflect.FullName]Schema{}, schemas: map[string]Schema{}}
	for _, name := range omit {
		m.omitted[name] = true
	}
	return m
}

// Replace has messages that are described later use the schema s for a field, not the schema of
// its type.
func (m *Messages) Replace(field protoreflect.FullName, s Schema) { m.replaced[field] = s }

// Components returns the schemas to which those of m refer.
func (m *Messages) Components() Components { return Components{Schemas: maps.Clone(m.schemas)} }

// Params returns the fields of a message as parameters, in the order in which they are
// declared, the required ones first.
func (m *Messages) Params(md protoreflect.MessageDescriptor, required ...string) []Content {
	out, rest := []Content{}, []Content{}
	for _, f := range m.fieldsOf(md) {
		c := Content{Name: f.JSONName(), Schema: m.field(f)}
		for _, name := range required {
			c.Required = c.Required || name == c.Name
		}
		if c.Required {
			out = append(out, c)
		} else {
			rest = append(rest, c)
		}
	}
	return append(out, rest...)
}

func (m *Messages) fieldsOf(md protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	var out []protoreflect.FieldDescriptor
	for i := range md.Fields().Len() {
		if f := md.Fields().Get(i); !m.omitted[f.FullName()] {
			out = append(out, f)
		}
	}
	return out
}

// Of returns the schema of a message.
func (m *Messages) Of(md protoreflect.MessageDescriptor) Schema {
	if s, ok := wellKnown(md.FullName()); ok {
		return s
	}
	name := string(md.FullName())
	if _, ok := m.schemas[name]; !ok {
		properties := Schema{}
		s := Schema{"title": strings.ReplaceAll(name, ".", "_"), "type": "object", "properties": properties, "additionalProperties": false}
		m.schemas[name] = s // before the fields: a message may contain itself
		for _, f := range m.fieldsOf(md) {
			properties[f.JSONName()] = m.field(f)
		}
	}
	return Schema{"$ref": "#/components/schemas/" + name}
}

func (m *Messages) field(f protoreflect.FieldDescriptor) Schema {
	if s, ok := m.replaced[f.FullName()]; ok {
		return s
	}
	switch {
	case f.IsMap():
		return Schema{"type": "object", "additionalProperties": m.value(f.MapValue())}
	case f.IsList():
		return Schema{"type": "array", "items": m.value(f)}
	}
	return m.value(f)
}

func (m *Messages) value(f protoreflect.FieldDescriptor) Schema {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return Schema{"type": "boolean"}
	case protoreflect.StringKind:
		return Schema{"type": "string"}
	case protoreflect.BytesKind:
		return Schema{"type": "string", "contentEncoding": "base64"}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return Schema{"type": "number"}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		// JavaScript's numbers have 53 bits, so protojson writes a string, and reads both.
		return Schema{"type": []string{"string", "integer"}, "pattern": "^-?[0-9]+$"}
	case protoreflect.EnumKind:
		return enum(f.Enum())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return m.Of(f.Message())
	}
	return Schema{"type": "integer"} // of at most 32 bits
}

func enum(ed protoreflect.EnumDescriptor) Schema {
	names := []string{}
	for i := range ed.Values().Len() {
		names = append(names, string(ed.Values().Get(i).Name()))
	}
	return Schema{"type": "string", "enum": names}
}

// Time returns the schema of a time (RFC 3339). It is a pattern, because tools of OpenRPC refuse
// formats.
func Time() Schema {
	return Schema{"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)$"}
}

// wellKnown returns the schema of a message that protojson writes in a form of its own.
func wellKnown(name protoreflect.FullName) (Schema, bool) {
	switch name {
	case "google.protobuf.Timestamp":
		return Time(), true
	case "google.protobuf.Duration":
		return Schema{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]+)?s$`}, true
	case "google.protobuf.FieldMask":
		return Schema{"type": "string"}, true
	case "google.protobuf.Any", "google.protobuf.Struct":
		return Schema{"type": "object"}, true
	case "google.protobuf.Value":
		return Schema{}, true
	}
	return nil, false
}
