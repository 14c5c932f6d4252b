// Package schema derives a JSON Schema from the types of hostconfig, for editors and for
// the reference page. It adds no rule of its own: types, tags and scalars say everything.
package schema

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// Schema is the part of a JSON Schema (draft 2020-12) that Trident's schema uses.
// Servicing is Trident's own annotation: the servicing that a change of the key needs.
type Schema struct {
	Dialect     string     `json:"$schema,omitempty"`
	Title       string     `json:"title,omitempty"`
	Description string     `json:"description,omitempty"`
	Ref         string     `json:"$ref,omitempty"`
	Type        any        `json:"type,omitempty"` // a string or a list of them
	Enum        []any      `json:"enum,omitempty"`
	Default     any        `json:"default,omitempty"`
	Format      string     `json:"format,omitempty"`
	Pattern     string     `json:"pattern,omitempty"`
	Minimum     *uint64    `json:"minimum,omitempty"`
	Maximum     *uint64    `json:"maximum,omitempty"`
	MultipleOf  uint64     `json:"multipleOf,omitempty"`
	Items       *Schema    `json:"items,omitempty"`
	Required    []string   `json:"required,omitempty"`
	Properties  Properties `json:"properties,omitempty"`
	Additional  any        `json:"additionalProperties,omitempty"` // false or a *Schema
	AnyOf       []*Schema  `json:"anyOf,omitempty"`
	OneOf       []*Schema  `json:"oneOf,omitempty"`
	AllOf       []*Schema  `json:"allOf,omitempty"`
	Not         *Schema    `json:"not,omitempty"`
	If          *Schema    `json:"if,omitempty"`
	Then        *Schema    `json:"then,omitempty"`
	Else        *Schema    `json:"else,omitempty"`
	Servicing   string     `json:"x-servicing,omitempty"`
	Defs        Properties `json:"$defs,omitempty"`
}

// Properties are schemas by name, in the order of the reference page.
type Properties []Property

// Property is one schema with its name.
type Property struct {
	Name   string
	Schema *Schema
}

// MarshalJSON keeps the order, which a map would not.
func (p Properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, one := range p {
		b.WriteByte("{,"[min(i, 1)])
		name, err := json.Marshal(one.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(one.Schema)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Document returns a schema of the documents that Parse accepts. It covers single
// values and the keys of one mapping. Only Parse checks arithmetic in text ("4097K") and
// rules about the whole document.
//
// comments are the comments of the types of hostconfig ("Disk"), fields ("Disk.ID")
// and constants ("RAIDLevel=raid0").
func Document(comments map[string]string) *Schema {
	b := schemaBuilder{comments: comments, seen: map[reflect.Type]bool{}, checks: map[string]bool{}}
	root := b.object(reflect.TypeFor[hostconfig.Spec]())
	root.Dialect, root.Title = "https://json-schema.org/draft/2020-12/schema", "Host Configuration"
	root.Type = []string{"object", "null"}
	slices.SortFunc(b.defs, func(x, y Property) int { return strings.Compare(x.Name, y.Name) })
	root.Defs = b.defs
	return root
}

type schemaBuilder struct {
	comments map[string]string
	seen     map[reflect.Type]bool
	checks   map[string]bool // forms of a health check that are defined already
	inCheck  bool
	defs     Properties
}

// object returns the schema of a mapping, with all its keys.
func (b *schemaBuilder) object(t reflect.Type) *Schema {
	s := &Schema{Description: b.comments[t.Name()], Type: "object", Additional: false}
	for _, m := range form.Members(t) {
		f := t.Field(m.Index)
		p := b.value(f.Type, m.Nullable || !m.Required && f.Type == reflect.TypeFor[string]() || b.inCheck && f.Type.Kind() == reflect.Slice)
		p.Description, p.Servicing = b.comments[t.Name()+"."+f.Name], f.Tag.Get("change")
		if words := b.describeWords(f.Type); words != "" {
			p.Description += "\n\n" + words
		}
		p.Default = defaultValue(f.Type, m.Default)
		if m.Required {
			s.Required = append(s.Required, m.Key)
		}
		s.Properties = append(s.Properties, Property{m.Key, p})
	}
	formSchema(s, t)
	return s
}

// define puts the schema of t among the definitions and returns a reference to it.
func (b *schemaBuilder) define(t reflect.Type) *Schema {
	if !b.seen[t] {
		b.seen[t] = true
		b.defs = append(b.defs, Property{t.Name(), b.object(t)})
	}
	return &Schema{Ref: "#/$defs/" + t.Name()}
}

// defineCheck is define for a form of a health check, where a list may be null as well.
func (b *schemaBuilder) defineCheck(name string, t reflect.Type) *Schema {
	if !b.checks[name] {
		b.checks[name] = true
		b.inCheck = true
		b.defs = append(b.defs, Property{name, b.object(t)})
		b.inCheck = false
	}
	return &Schema{Ref: "#/$defs/" + name}
}

// value returns the schema of a value of type t; optional says whether null means its default.
func (b *schemaBuilder) value(t reflect.Type, optional bool) *Schema {
	s := b.form(t)
	if !optional {
		return s
	}
	switch {
	case s.AnyOf != nil:
		s.AnyOf = append(s.AnyOf, &Schema{Type: "null"})
	case s.Enum != nil:
		s.Enum = append(s.Enum, nil)
	case s.Type != nil:
		if one, ok := s.Type.(string); ok {
			s.Type = []string{one}
		}
		s.Type = append(s.Type.([]string), "null")
	default:
		s = &Schema{AnyOf: []*Schema{s, {Type: "null"}}}
	}
	return s
}

func (b *schemaBuilder) form(t reflect.Type) *Schema {
	if s := scalarSchema(t); s != nil {
		return s
	}
	switch t {
	case reflect.TypeFor[hostconfig.HealthCheck]():
		return &Schema{
			If:   &Schema{Type: "object", Required: []string{"systemdServices"}},
			Then: b.defineCheck("SystemdCheck", reflect.TypeFor[hostconfig.SystemdCheck]()), Else: b.defineCheck("ScriptCheck", reflect.TypeFor[hostconfig.Script]()),
		}
	case reflect.TypeFor[hostconfig.Netplan]():
		low, high := uint64(0), uint64(255)
		return &Schema{Type: "object", Required: []string{"version"}, Properties: Properties{{"version", &Schema{Type: "integer", Minimum: &low, Maximum: &high}}}}
	case reflect.TypeFor[map[string]any]():
		return &Schema{Type: "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return b.form(t.Elem())
	case reflect.Slice:
		return &Schema{Type: "array", Items: b.value(t.Elem(), false)}
	case reflect.Map:
		return &Schema{Type: "object", Additional: b.value(t.Elem(), false)}
	case reflect.Struct:
		if form.Short(t) != "" {
			return &Schema{AnyOf: []*Schema{{Type: []string{"string", "number", "boolean"}}, b.define(t)}}
		}
		return b.define(t)
	}
	return &Schema{Type: []string{"string", "number", "boolean"}}
}

// describeWords returns the meaning of each word of t, one a line.
func (b *schemaBuilder) describeWords(t reflect.Type) string {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	var out []string
	values, _ := form.ValuesOf(t)
	for _, word := range values.Words {
		if comment := b.comments[t.Name()+"="+word]; comment != "" {
			out = append(out, "- "+word+": "+comment)
		}
	}
	return strings.Join(out, "\n")
}

// scalarSchema returns the schema of a scalar type, or nil if it has any text.
func scalarSchema(t reflect.Type) *Schema {
	if v, ok := form.ValuesOf(t); ok {
		return valuesSchema(v)
	}
	switch t.Kind() {
	case reflect.Bool:
		return &Schema{Type: "boolean"}
	case reflect.Uint32, reflect.Uint64:
		low, high := uint64(0), uint64(1)<<(t.Bits()-1)*2-1
		return &Schema{Type: "integer", Minimum: &low, Maximum: &high}
	}
	return nil
}

// valuesSchema returns the schema of the values v.
func valuesSchema(v form.Values) *Schema {
	var parts []*Schema
	if n := v.Numbers; n != nil {
		parts = append(parts, &Schema{Type: "integer", Minimum: n.Min, Maximum: n.Max, MultipleOf: n.Step})
	}
	if v.Words != nil {
		parts = append(parts, &Schema{Enum: enum(v.Words)})
	}
	if v.Pattern != "" {
		parts = append(parts, &Schema{Type: "string", Pattern: "^(" + v.Pattern + ")$", Format: v.Format})
	}
	switch {
	case len(parts) == 1:
		return parts[0]
	case v.Words == nil: // the limits of numbers do not concern text, and patterns do not concern numbers
		parts[0].Type, parts[0].Pattern, parts[0].Format = []string{"integer", "string"}, parts[1].Pattern, parts[1].Format
		return parts[0]
	}
	return &Schema{AnyOf: parts}
}

func enum(words []string) []any {
	out := make([]any, len(words))
	for i, w := range words {
		out[i] = w
	}
	return out
}

func defaultValue(t reflect.Type, text string) any {
	if t.Kind() == reflect.Bool {
		return false
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && t.Kind() == reflect.Uint64 {
		return n
	}
	if text == "" {
		return nil
	}
	return text
}

// formSchema adds to s the rules that hostconfig and its rules check within one mapping of type t.
func formSchema(s *Schema, t reflect.Type) {
	given := func(key string) *Schema {
		return &Schema{Required: []string{key}, Properties: Properties{{key, &Schema{Not: &Schema{Type: "null"}}}}}
	}
	types := func(required []string, sources []any, types ...any) *Schema {
		return &Schema{
			If:   &Schema{Required: required, Properties: Properties{{"source", &Schema{Enum: sources}}}},
			Then: &Schema{Properties: Properties{{"type", &Schema{Enum: append(types, nil)}}}},
		}
	}
	switch t {
	case reflect.TypeFor[hostconfig.Script]():
		s.OneOf = []*Schema{{Required: []string{"content"}}, {Required: []string{"path"}}}
		s.Properties[slices.IndexFunc(s.Properties, func(p Property) bool { return p.Name == "path" })].Schema.Not = &Schema{Type: "null"}
	case reflect.TypeFor[hostconfig.AdoptedPartition]():
		s.OneOf = []*Schema{given("matchLabel"), given("matchUuid")}
	case reflect.TypeFor[hostconfig.Filesystem]():
		s.AllOf = []*Schema{
			types(nil, []any{hostconfig.FromImage, nil}),
			types([]string{"source"}, []any{hostconfig.FromNew}, hostconfig.Ext4, hostconfig.XFS, hostconfig.VFAT, hostconfig.NTFS, hostconfig.Tmpfs, hostconfig.Overlay),
			types([]string{"source"}, []any{hostconfig.FromAdopted}, hostconfig.Ext4, hostconfig.XFS, hostconfig.VFAT, hostconfig.NTFS, hostconfig.Auto, hostconfig.ISO9660),
		}
	}
}
