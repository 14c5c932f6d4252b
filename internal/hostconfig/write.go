package hostconfig

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// YAML returns the document in its canonical form: keys in the order of the reference
// page, without values at their defaults, short forms expanded. Two Configs with the same
// content give the same bytes. Parse (ParseRecorded, if c is from there) reads the same
// content from the result.
func (c *Config) YAML() []byte { return writer{extras: c.extras}.document(c) }

// YAMLWithDefaults returns the document as YAML does, with the defaults and nulls that
// upstream's get prints. Parse, or ParseRecorded, reads the same content from it.
func (c *Config) YAMLWithDefaults() []byte {
	return writer{extras: c.extras, withDefaults: true}.document(c)
}

func (w writer) document(c *Config) []byte {
	n := w.structure(reflect.ValueOf(&c.spec).Elem(), "")
	if len(n.Content) == 0 {
		return []byte("{}\n")
	}
	var b bytes.Buffer
	d, err := yaml.NewDumper(&b, yaml.WithV4Defaults(), yaml.WithLineWidth(-1))
	if err == nil {
		err = d.Dump(n)
	}
	if err == nil {
		err = d.Close()
	}
	if err != nil {
		// Cannot happen: the writer is memory and this package made the nodes. A fuzz test checks it.
		panic("hostconfig: write canonical document: " + err.Error())
	}
	return b.Bytes()
}

type writer struct {
	extras       extras
	withDefaults bool // for YAMLWithDefaults
}

func (w writer) structure(v reflect.Value, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, m := range form.Members(v.Type()) {
		at, value := form.Join(path, m.Key), v.Field(m.Index)
		if w.withDefaults && m.Printed && (w.isDefault(m, value, at) || isUnset(value)) {
			if node := w.defaultNode(v, m, value, at); node != nil {
				n.Content = append(n.Content, textNode(m.Key), node)
			}
			continue
		}
		if !m.Required && w.isDefault(m, value, at) || isUnset(value) {
			continue
		}
		n.Content = append(n.Content, textNode(m.Key), w.value(value, at))
	}
	for _, key := range slices.Sorted(maps.Keys(w.extras[path])) {
		n.Content = append(n.Content, textNode(key), w.value(reflect.ValueOf(w.extras[path][key]), ""))
	}
	return n
}

// defaultNode returns the value that upstream's get prints for the key m of the mapping v at its default, or nil if get leaves the key out.
func (w writer) defaultNode(v reflect.Value, m form.Member, value reflect.Value, at string) *yaml.Node {
	if fs, ok := v.Interface().(Filesystem); ok { // the member is type
		switch fs.Source {
		case FromNew:
			return textNode(string(Ext4))
		case FromAdopted:
			return textNode(string(Auto))
		}
		return nil
	}
	if m.Nullable {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	}
	return w.value(value, at)
}

// isUnset reports whether the document did not have value, whose type does not allow the
// empty text. Only a recorded document can lack a required value.
func isUnset(value reflect.Value) bool {
	return value.Kind() == reflect.String && value.Len() == 0 && value.Type() != reflect.TypeFor[string]()
}

// isDefault reports whether value means the same as a missing key.
func (w writer) isDefault(m form.Member, value reflect.Value, at string) bool {
	switch value.Kind() {
	case reflect.Struct:
		return len(writer{extras: w.extras}.structure(value, at).Content) == 0
	case reflect.Slice, reflect.Map, reflect.Pointer:
		return value.IsNil() || value.Kind() == reflect.Slice && value.Len() == 0
	}
	return m.Default != "" && scalarText(value) == m.Default || m.Default == "" && value.IsZero()
}

func (w writer) value(v reflect.Value, path string) *yaml.Node {
	if check, ok := asCheck(v); ok {
		return w.structure(check, path)
	}
	switch v.Kind() {
	case reflect.Invalid:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	case reflect.Interface, reflect.Pointer:
		return w.value(v.Elem(), path)
	case reflect.Struct:
		return w.structure(v, path)
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if v.Len() == 0 {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, w.value(v.Index(i), path+"["+strconv.Itoa(i)+"]"))
		}
		return n
	case reflect.Map:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if v.Len() == 0 {
			n.Style = yaml.FlowStyle
		}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			n.Content = append(n.Content, scalarNode(k.String(), "!!str"), w.value(v.MapIndex(k), ""))
		}
		return n
	case reflect.Bool:
		return scalarNode(scalarText(v), "!!bool")
	case reflect.Float64:
		return scalarNode(scalarText(v), "!!float")
	}
	text := scalarText(v)
	if v.Kind() != reflect.String && form.KindOfText(text) == form.Int {
		return scalarNode(text, "!!int")
	}
	return scalarNode(text, "!!str")
}

// asCheck returns the form of the health check v, a Script or SystemdCheck; false if v is not a health check.
func asCheck(v reflect.Value) (reflect.Value, bool) {
	if !v.IsValid() || v.Type() != reflect.TypeFor[HealthCheck]() {
		return v, false
	}
	if c := v.Interface().(HealthCheck); c.Systemd != nil {
		return reflect.ValueOf(c.Systemd).Elem(), true
	} else if c.Script != nil {
		return reflect.ValueOf(c.Script).Elem(), true
	}
	return reflect.ValueOf(Script{}), true
}

// scalarText returns the text of v, without quotes.
func scalarText(v reflect.Value) string {
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	case reflect.Float64:
		text := strconv.FormatFloat(v.Float(), 'g', -1, 64)
		if form.IsDigits(strings.TrimPrefix(text, "-")) {
			text += ".0"
		}
		return text
	}
	return v.String()
}

// scalarNode returns a node for text. It quotes text that a reader of YAML 1.1 would take
// for something else: YAML 1.1 has more words for true and false and more forms of
// numbers.
func scalarNode(text, tag string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}
	if tag != "!!str" {
		return n
	}
	switch {
	case strings.Contains(text, "\n") && isBlock(text):
		n.Style = yaml.LiteralStyle
	case needsQuotes(text):
		n.Style = yaml.SingleQuotedStyle
	}
	return n
}

// isBlock reports whether text keeps its meaning as a literal block.
func isBlock(text string) bool {
	if strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\n") || strings.HasSuffix(text, "\n\n") || strings.ContainsAny(text, "\r\u0085\u2028\u2029\ufeff\t") {
		return false
	}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(line) == "" && line != "" || strings.HasSuffix(line, " ") {
			return false
		}
	}
	return true
}

// needsQuotes reports whether a reader of YAML 1.1 or 1.2 may take text for something other than text.
func needsQuotes(text string) bool {
	if form.KindOfText(text) != form.Text || text == "<<" || text == "=" {
		return true
	}
	switch strings.ToLower(text) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null", ".inf", ".nan", "+.inf", "-.inf":
		return true
	}
	return strings.IndexAny(text[:1], "0123456789+-.") == 0 && strings.Trim(text, "0123456789abcdefABCDEFxXoO_+-.:TZ ") == ""
}
