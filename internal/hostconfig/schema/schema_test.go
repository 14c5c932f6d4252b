package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
	"github.com/trident-project/trident/internal/hostconfig/rules"
)

// compileSchema returns the schema, ready to judge documents.
func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(Document(nil))
	if err != nil {
		t.Fatal(err)
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", root); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// asJSON is what an editor that reads YAML gives its JSON Schema validator.
func asJSON(t testing.TB, text string) (any, bool) {
	t.Helper()
	var v any
	if err := yaml.Load([]byte(text), &v); err != nil {
		return nil, false
	}
	return jsonValue(v), true
}

func jsonValue(v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, value := range x {
			out[k] = jsonValue(value)
		}
		return out
	case map[any]any:
		out := map[string]any{}
		for k, value := range x {
			out[fmt.Sprint(k)] = jsonValue(value)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, value := range x {
			out[i] = jsonValue(value)
		}
		return out
	case int:
		return float64(x)
	case int64:
		return float64(x)
	case uint64:
		return float64(x)
	case time.Time:
		return x.String()
	}
	return v
}

func compare(t *testing.T, schema *jsonschema.Schema, text string) {
	t.Helper()
	v, ok := asJSON(t, text)
	if !ok {
		t.Fatalf("no YAML: %s", text)
	}
	r := parseOnly(text)
	if err := schema.Validate(v); (err == nil) != (len(r) == 0) {
		t.Errorf("the schema says: %v\nParse says:\n%s\nof:\n%.500s", err, hostconfigtest.Lines(r), text)
	}
}

func TestSchemaAndParseAgree(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	all := hostconfigtest.Whole()
	if r := parseOnly(all); len(r) > 0 {
		t.Fatal(hostconfigtest.Lines(r))
	}
	tree, ok := asJSON(t, all)
	if !ok {
		t.Fatal("the document with every key is not YAML")
	}
	if err := schema.Validate(tree); err != nil {
		t.Fatal(err)
	}
	n := 0
	each := func(section any, document func(changed any) any) {
		for _, changed := range mutations(section) {
			text, err := json.Marshal(document(changed))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, schema, string(text))
			n++
		}
	}
	// Each key of each section by itself: small documents are read fast.
	for key, section := range tree.(map[string]any) {
		each(nil, func(changed any) any { return map[string]any{key: changed} })
		for inner, value := range section.(map[string]any) {
			rest := map[string]any{}
			if key == "image" { // whose keys are required
				rest = section.(map[string]any)
			}
			each(value, func(changed any) any {
				m := maps.Clone(rest)
				m[inner] = changed
				return map[string]any{key: m}
			})
			each(nil, func(changed any) any { return map[string]any{key: map[string]any{inner + "s": changed}} })
		}
	}
	if n < 3000 {
		t.Errorf("only %d documents were compared", n)
	}
}

// mutations are documents that differ from v in one place.
func mutations(v any) []any {
	out := []any{
		nil, true, "text", "", "image", "grow", "/path", "raid1", "ignored", "all", float64(0), float64(7), float64(4096), float64(5000), -1.0, 1.5,
		[]any{}, []any{nil}, []any{"x"}, map[string]any{}, map[string]any{"name": "x"}, "0fc63daf-8483-4772-8e79-3d69d8477de4", "file:///x",
	}
	switch x := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(x)) {
			for _, changed := range mutations(x[k]) {
				m := maps.Clone(x)
				m[k] = changed
				out = append(out, m)
			}
			less, other := maps.Clone(x), maps.Clone(x)
			delete(less, k)
			other[k+"s"] = x[k]
			out = append(out, less, other)
		}
	case []any:
		for i := range x {
			for _, changed := range mutations(x[i]) {
				list := slices.Clone(x)
				list[i] = changed
				out = append(out, list)
			}
		}
	}
	return out
}

func TestSchemaAndParseAgreeOnSamples(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	for name, text := range hostconfigtest.Upstream(t, "../../..") {
		t.Run(name, func(t *testing.T) { compare(t, schema, string(text)) })
	}
}

func TestSchemaAndParseAgreeOnFormsOfYAML(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	for _, text := range []string{
		"{}", "null", "[]", "x", "os: ~", "os: []", "os: {hostname: 5}", "os: {hostname: yes}", "os: {hostname: true}", "os: {hostname: 1.5}",
		"trident: {disable: yes}", "trident: {disable: True}", "trident: {disable: 'true'}", "trident: {disable: 1}",
		"storage: {raid: {syncTimeout: 0x10}}", "storage: {raid: {syncTimeout: 0o17}}", "storage: {raid: {syncTimeout: +5}}", "storage: {raid: {syncTimeout: '5'}}",
		"storage: {raid: {syncTimeout: 5s}}", "storage: {raid: {syncTimeout: -1}}", "storage: {swap: [5, true, null]}", "storage: {swap: [5, true]}",
		"os: {additionalFiles: [{destination: /x, permissions: 0755}]}", "os: {users: [{name: 2020-01-01}]}", "health: {checks: [{systemdServices: }]}",
		"storage: {encryption: {volumes: [], pcrs: ['7']}}", "storage: {encryption: {volumes: [], pcrs: [07, 24]}}", "scripts: {preServicing: [{environmentVariables: {A: ~}}]}",
	} {
		compare(t, schema, text)
	}
}

func FuzzSchema(f *testing.F) {
	schema := compileSchema(f)
	hostconfigtest.Fuzz(f, func(t *testing.T, text []byte) {
		if regexp.MustCompile(`[0-9]{32}`).Match(text) {
			t.Skip() // a hash or UUID that happens to be a number
		}
		if !utf8.Valid(text) || strings.ContainsAny(string(text), "*!<%") || strings.Count(string(text), "---") > 0 {
			t.Skip() // aliases, tags, merge keys and more documents: not what a schema is about
		}
		if r := parseOnly(string(text)); len(r) > 0 {
			t.Skip() // what Parse refuses the schema may let pass: arithmetic, forms of text, keys given twice
		}
		v, ok := asJSON(t, string(text))
		if !ok {
			return
		}
		if hasEmpty(t, text) {
			t.Skip() // "os:" is an empty mapping for Parse, and null, like "os: ~", for a schema
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("the schema refuses what Parse takes: %v\n%s", err, text)
		}
	}, []byte(hostconfigtest.Whole()))
}

// hasEmpty reports whether a key or an entry has no value at all.
func hasEmpty(t testing.TB, text []byte) bool {
	t.Helper()
	var document yaml.Node
	if err := yaml.Load(text, &document); err != nil {
		t.Fatal(err)
	}
	var empty func(n *yaml.Node) bool
	empty = func(n *yaml.Node) bool {
		return n.Kind == yaml.ScalarNode && n.Value == "" && n.Tag == "!!null" || slices.ContainsFunc(n.Content, empty)
	}
	return empty(&document)
}

// parseOnly is what Parse finds before it looks at the whole document.
func parseOnly(text string) hostconfig.Report {
	_, r := hostconfig.Parse([]byte(text), rules.Check)
	out := hostconfig.Report{}
	for _, f := range r {
		// What the schema knows as well.
		basic := f.Detail == "BasicCheckFailed" && (strings.HasSuffix(f.Message, "matchUuid") || strings.HasSuffix(f.Message, "and more than 0"))
		if f.Name == hostconfig.NameParse || f.Name == hostconfig.NameOldStyle || f.Name == hostconfig.NameAllowedOperations || basic {
			out = append(out, f)
		}
	}
	return out
}

type (
	mixed   uint8  // a made-up scalar of words and numbers
	pattern string // a made-up scalar of other text
)

func (mixed) Values() form.Values {
	most := uint64(9)
	return form.Values{Words: []string{"all"}, Numbers: &form.Numbers{Max: &most}}
}

func (pattern) Values() form.Values { return form.Values{Pattern: "x+", Format: "uri"} }

func TestANewScalarTypeIsItsMethods(t *testing.T) {
	t.Parallel()
	b := schemaBuilder{seen: map[reflect.Type]bool{}}
	got, err := json.Marshal(b.object(reflect.TypeFor[struct {
		Mixed   mixed   `key:"mixed,required"`
		Pattern pattern `key:"pattern,null"`
	}]()))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"type":"object","required":["mixed"],"properties":{"mixed":{"anyOf":[{"type":"integer","maximum":9},{"enum":["all"]}]},` +
		`"pattern":{"type":["string","null"],"format":"uri","pattern":"^(x+)$"}},"additionalProperties":false}`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
