package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig/schema"
)

// page writes a table of keys for each mapping of a schema, in the order of a document.
type page struct {
	text bytes.Buffer
	defs schema.Properties
	seen map[string]string // the path at which a definition was written
}

// section writes the keys of s, a mapping at path, and then those of the
// mappings below. servicing is what a change of it needs where no key says otherwise.
func (p *page) section(path string, s *schema.Schema, servicing string) {
	title := "The document"
	if path != "" {
		title = "`" + path + "`"
	}
	shared, all := sharedServicing(s, servicing)
	description := s.Description
	if all {
		description += strings.Replace(servicingSentence(shared), "A change", "A change of any key", 1)
	}
	fmt.Fprintf(&p.text, "### %s\n\n%s\n\n", title, description)
	p.text.WriteString("| key | value | meaning |\n|---|---|---|\n")
	type below struct {
		path, servicing string
		value           *schema.Schema
	}
	var next []below
	for _, k := range s.Properties {
		needs := cmp.Or(k.Schema.Servicing, servicing)
		value := ""
		switch {
		case slices.Contains(s.Required, k.Name):
			value = ", **required**"
		case k.Schema.Default != nil:
			value = "; default " + code(k.Schema.Default)
		}
		description, sentence := cell(k.Schema.Description), servicingSentence(needs)
		if all {
			sentence = ""
		}
		if strings.Contains(description, "<br>") { // a list, which does not end with a period
			sentence = strings.Replace(sentence, " ", "<br>", 1)
		}
		fmt.Fprintf(&p.text, "| `%s` | %s%s | %s%s |\n", k.Name, p.form(k.Schema), value, description, sentence)
		at := strings.TrimPrefix(path+"."+k.Name, ".")
		next = append(next, below{at, needs, k.Schema})
	}
	p.text.WriteString("\n")
	for _, b := range next {
		p.below(b.path, b.value, b.servicing)
	}
}

// sharedServicing returns what a change of the first key of s needs, and whether a change
// of every other key needs the same.
func sharedServicing(s *schema.Schema, servicing string) (needs string, all bool) {
	for i, k := range s.Properties {
		own := cmp.Or(k.Schema.Servicing, servicing)
		if i > 0 && own != needs {
			return "", false
		}
		needs = own
	}
	return needs, true
}

// below writes the sections of the mappings in s.
func (p *page) below(path string, s *schema.Schema, servicing string) {
	if s == nil {
		return
	}
	if s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, "#/$defs/")
		if first := p.seen[name]; first != "" {
			fmt.Fprintf(&p.text, "### `%s`\n\nThe same keys as `%s`.%s\n\n", path, first, servicingSentence(servicing))
			return
		}
		p.seen[name] = path
		i := slices.IndexFunc(p.defs, func(d schema.Property) bool { return d.Name == name })
		p.section(path, p.defs[i].Schema, servicing)
		return
	}
	if s.Items != nil {
		p.below(path+"[]", s.Items, servicing)
	}
	for _, one := range s.AnyOf {
		p.below(path, one, servicing)
	}
	if s.If != nil {
		p.below(path+" with systemdServices", s.Then, servicing)
		p.below(path+" without systemdServices", s.Else, servicing)
	}
}

// form says in words which values s takes.
func (p *page) form(s *schema.Schema) string {
	switch {
	case s.Ref != "" || s.If != nil:
		return "mapping"
	case s.Items != nil:
		return "list of: " + p.form(s.Items)
	case s.AnyOf != nil:
		var forms []string
		for _, one := range s.AnyOf {
			if f := p.form(one); f != "" {
				forms = append(forms, f)
			}
		}
		return strings.Join(forms, ", or ")
	case s.Enum != nil:
		var words []string
		for _, w := range s.Enum {
			if w != nil {
				words = append(words, code(w))
			}
		}
		return strings.Join(words, ", ")
	}
	return p.typeWord(s)
}

func (p *page) typeWord(s *schema.Schema) string {
	types, ok := s.Type.([]string)
	if one, is := s.Type.(string); is {
		types, ok = []string{one}, true
	}
	if !ok {
		return ""
	}
	has := func(t string) bool { return slices.Contains(types, t) }
	inner, _ := s.Additional.(*schema.Schema)
	switch {
	case has("string") && has("integer"):
		return "size"
	case s.Format == "uri":
		return "URL"
	case has("string") && strings.Contains(s.Pattern, "{96}"):
		return "SHA-384"
	case has("string") && strings.Contains(s.Pattern, "{8}"):
		return "UUID"
	case has("string"):
		return "text"
	case has("integer") && s.Maximum != nil && *s.Maximum < 100:
		return fmt.Sprintf("%d to %d", *s.Minimum, *s.Maximum)
	case has("integer"):
		return "whole number"
	case has("boolean"):
		return "`true`, `false`"
	case has("object") && inner != nil:
		return "mapping of names to " + p.form(inner)
	case has("object"):
		return "mapping"
	}
	return ""
}

// servicingSentence says which update a change of a key needs; "" if none.
func servicingSentence(s string) string {
	switch s {
	case "runtime-update":
		return " A change needs a runtime update."
	case "ab-update":
		return " A change needs an A/B update."
	}
	return ""
}

func code(v any) string {
	if s, ok := v.(string); ok {
		return "`" + s + "`"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return "`" + strings.Trim(string(text), `"`) + "`"
}

// cell is text in one cell of a table. Words with a meaning, which the schema
// has as a list, follow on lines of their own.
func cell(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if item, ok := strings.CutPrefix(line, "- "); ok {
			word, meaning, _ := strings.Cut(item, ": ")
			line = "`" + word + "`: " + meaning
		}
		if line != "" {
			lines = append(lines, strings.ReplaceAll(line, "|", `\|`))
		}
	}
	return strings.Join(lines, "<br>")
}
