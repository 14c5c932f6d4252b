package hostconfig

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// decoder fills Go values from YAML nodes and collects every fault. A value at fault
// stays zero; the decoder continues with the next one.
type decoder struct {
	places  places
	report  Report
	extras  extras
	lenient bool // for ParseRecorded: unknown keys go to extras, missing ones stay zero, unknown words are kept
	inCheck bool // in a health check, where a list may be null as well, as for upstream

	nodes, aliases, bytes int
	warnings              int
	full                  bool // a limit was reached: the decoder ignores the rest
}

// extras has the keys of a recorded document that this release does not know, with their values, by the path of their mapping.
type extras map[string]map[string]any

func (d *decoder) addFault(pos place, path, name, format string, args ...any) {
	if d.full {
		return
	}
	f := Finding{Line: pos.line, Column: pos.column, Path: path, Severity: Error, Name: name, Message: fmt.Sprintf(format, args...)}
	if name == NameGraph {
		f.Detail = "BasicCheckFailed" // the only storage fault that the decoder finds: a size
	}
	d.report = append(d.report, f)
	if len(d.report)-d.warnings == maxFaults {
		d.full = true
	}
}

// notePlace records the place of path. It ignores paths of more than 400 bytes, which
// only hostile documents have, to save memory: places.at then returns the parent's place.
func (d *decoder) notePlace(path string, n *yaml.Node) {
	if len(path) <= 400 {
		d.places[path] = placeOf(n)
	}
}

// addLimitFault adds a fault and ends the decoding.
func (d *decoder) addLimitFault(n *yaml.Node, path, format string, args ...any) {
	d.addFault(placeOf(n), path, NameParse, format, args...)
	d.full = true
}

// warn adds a finding about a value that is accepted, and may not do what its author meant.
func (d *decoder) warn(n *yaml.Node, path, format string, args ...any) {
	if !d.full && d.warnings < maxFaults {
		d.warnings++
		d.report = append(d.report, Finding{Line: n.Line, Column: n.Column, Path: path, Severity: Warning, Message: fmt.Sprintf(format, args...)})
	}
}

// addFormFault adds a fault for a value of the wrong form.
func (d *decoder) addFormFault(n *yaml.Node, path, format string, args ...any) {
	d.addFault(placeOf(n), path, NameParse, format, args...)
}

// enter counts n against the limits and returns n or, if n is an alias, the node that n
// refers to; false if a limit is reached.
func (d *decoder) enter(n *yaml.Node, path string, depth int) (*yaml.Node, bool) {
	if d.full {
		return nil, false
	}
	if d.nodes++; d.nodes > maxNodes {
		d.addLimitFault(n, path, "is too much: a document has at most %d keys and values, those reached by aliases included", maxNodes)
		return nil, false
	}
	if depth > maxDepth {
		d.addLimitFault(n, path, "is nested more than %d levels deep", maxDepth)
		return nil, false
	}
	if n.Kind == yaml.AliasNode {
		if d.aliases++; d.aliases > maxAliases {
			d.addLimitFault(n, path, "is one alias too many: a document has at most %d", maxAliases)
			return nil, false
		}
		n = n.Alias
	}
	if d.bytes += len(n.Value); d.bytes > maxRecord {
		d.addLimitFault(n, path, "is too much: a document has at most %d KiB of text, that reached by aliases included", maxRecord>>10)
		return nil, false
	}
	if tag := n.ShortTag(); n.Style&yaml.TaggedStyle != 0 && !slices.Contains(coreTags(), tag) && !d.lenient {
		d.warn(n, path, "has the tag %s, which is ignored", form.Shorten(tag))
	}
	return n, true
}

// coreTags are the tags of YAML's core schema. They cause no warning, because the decoder decides by the text of a value.
func coreTags() []string {
	return []string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!seq", "!!map", "!"}
}

// emptiness says what an empty or null value means.
type emptiness int

const (
	mustBeGiven emptiness = iota // a fault: list items, and required keys
	mayBeEmpty                   // of an optional key: depends on its type (decodeNull)
	mayBeNull                    // of an optional key: the same as a missing key
)

// decodeValue decodes n, the value of a key or a list item, into v. An empty list or
// mapping becomes nil, as if it were missing, except in netplan.
func (d *decoder) decodeValue(n *yaml.Node, v reflect.Value, path string, depth int, empty emptiness) {
	n, ok := d.enter(n, path, depth)
	if !ok {
		return
	}
	t := v.Type()
	if form.IsNull(n) {
		d.decodeNull(n, v, path, empty)
		return
	}
	switch {
	case t == reflect.TypeFor[Netplan]() || t == reflect.TypeFor[map[string]any]():
		if n.Kind != yaml.MappingNode {
			d.addKindFault(n, t, path)
			break
		}
		isNetplan := t == reflect.TypeFor[Netplan]()
		if m, ok := d.decodeGeneric(n, path, depth).(map[string]any); ok && (len(m) > 0 || isNetplan) {
			v.Set(reflect.ValueOf(m).Convert(t))
		}
		if isNetplan && !d.lenient && !d.full {
			d.checkNetplan(n, netplanRules(), path)
		}
	case t == reflect.TypeFor[HealthCheck]():
		d.decodeHealthCheck(n, v, path, depth)
	case t.Kind() == reflect.Pointer:
		target := reflect.New(t.Elem())
		d.decodeValue(n, target.Elem(), path, depth, mustBeGiven)
		v.Set(target)
	case t.Kind() == reflect.Struct:
		d.decodeStructure(n, v, path, depth)
	case t.Kind() == reflect.Slice:
		d.decodeList(n, v, path, depth)
	case t.Kind() == reflect.Map:
		d.decodeTextMap(n, v, path, depth)
	default:
		d.decodeScalar(n, v, path)
	}
}

// decodeNull decodes a value that is empty ("key:") or null ("key: null", "key: ~").
// Every list and mapping may be empty, and null is not a list, as for upstream. The text
// of an optional key may be null, which means a missing key; upstream would read the word
// "null", which nobody means.
func (d *decoder) decodeNull(n *yaml.Node, v reflect.Value, path string, empty emptiness) {
	t := v.Type()
	bare := n.Value == "" && n.Style&yaml.TaggedStyle == 0
	isText := t == reflect.TypeFor[string]()
	holds := t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t.Kind() == reflect.Struct && form.Short(t) == "" && t != reflect.TypeFor[HealthCheck]()
	switch {
	case empty == mayBeNull, empty == mayBeEmpty && (d.lenient || isText):
		if t.Kind() == reflect.Struct {
			setDefaults(v)
		}
	case (bare || d.inCheck && t.Kind() == reflect.Slice) && holds && t != reflect.TypeFor[[]Swap]():
		if t.Kind() == reflect.Struct {
			d.decodeStructure(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column}, v, path, 0)
		}
	case empty == mayBeEmpty:
		d.addFormFault(n, path, "is null; wants %s, or leave the key out", wants(t))
	default:
		d.addFormFault(n, path, "is empty; wants %s", wants(t))
	}
}

func (d *decoder) decodeList(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.SequenceNode {
		d.addKindFault(n, v.Type(), path)
		return
	}
	if len(n.Content) == 0 {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		d.notePlace(at, item)
		d.decodeValue(item, v.Index(i), at, depth+1, mustBeGiven)
	}
}

func (d *decoder) decodeTextMap(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		d.addKindFault(n, v.Type(), path)
		return
	}
	out := reflect.MakeMap(v.Type())
	d.eachPair(n, path, anyKeys, func(key string, value *yaml.Node, at string) {
		text := reflect.New(v.Type().Elem()).Elem()
		d.decodeValue(value, text, at, depth+1, mustBeGiven)
		out.SetMapIndex(reflect.ValueOf(key), text)
	})
	if out.Len() > 0 {
		v.Set(out)
	}
}

func (d *decoder) decodeStructure(n *yaml.Node, v reflect.Value, path string, depth int) {
	t := v.Type()
	if key := form.Short(t); key != "" && n.Kind == yaml.ScalarNode {
		d.nodes++ // YAML writes the short form as a mapping, with one more node
		setDefaults(v)
		i := slices.IndexFunc(form.Members(t), func(f form.Member) bool { return f.Key == key })
		d.decodeScalar(n, v.Field(i), path)
		return
	}
	if n.Kind != yaml.MappingNode {
		d.addKindFault(n, t, path)
		return
	}
	if t == reflect.TypeFor[Password]() && !d.lenient && unlocksLogin(n) {
		d.addFormFault(n, path, "sets a password; only type: locked is supported, with sshPublicKeys to log in")
		return
	}
	known, before := form.Members(t), len(d.report)
	given := make([]bool, len(known))
	d.eachPair(n, path, knownKeys, func(key string, value *yaml.Node, at string) {
		i := slices.IndexFunc(known, func(f form.Member) bool { return f.Key == key })
		if i >= 0 && given[i] {
			d.addFormFault(value, at, "is given twice")
			return
		}
		if i < 0 {
			d.handleUnknownKey(key, value, path, at, known, depth)
			return
		}
		given[i] = true
		empty := mayBeEmpty
		switch {
		case known[i].Nullable, d.lenient:
			empty = mayBeNull
		case known[i].Required:
			empty = mustBeGiven
		}
		if p, ok := d.places[at]; ok && form.IsNull(value) {
			p.null = true
			d.places[at] = p
		}
		target := v.Field(known[i].Index)
		if target.Kind() != reflect.Struct || form.IsNull(value) {
			setDefault(known[i], target)
		}
		d.decodeValue(value, target, at, depth+1, empty)
		if known[i].File && target.String() == "" && d.places.gives(at) {
			target.SetString(emptyPath)
		}
	})
	for i, f := range known {
		switch {
		case given[i]:
		case f.Required && !d.lenient:
			d.addFault(placeOf(n), form.Join(path, f.Key), NameParse, "is missing")
		default:
			setDefault(f, v.Field(f.Index))
		}
	}
	if !d.lenient && len(d.report) == before {
		d.checkForm(v, path)
	}
}

// keyRule says which keys a mapping may have.
type keyRule int

const (
	knownKeys  keyRule = iota // a merge key and a repeated key are faults
	uniqueKeys                // any key; a repeated key is a fault
	anyKeys                   // any key; of repeated keys the last counts, as for upstream
)

// eachPair calls do for every key of the mapping n, and records the place of the key. A key that is not text is a fault.
func (d *decoder) eachPair(n *yaml.Node, path string, rule keyRule, do func(key string, value *yaml.Node, at string)) {
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content) && !d.full; i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind == yaml.AliasNode && k.Alias.Kind == yaml.ScalarNode:
			k = k.Alias
		case k.Kind != yaml.ScalarNode || form.IsNull(k):
			d.addFormFault(k, path, "has a key that is not text")
			continue
		case k.Value == "<<" && form.Plain(k) && rule == knownKeys:
			d.addFormFault(k, path, "has a merge key (<<), which is not supported")
			continue
		}
		at := form.Join(path, k.Value)
		if line, twice := first[k.Value]; twice && rule != anyKeys {
			d.addFormFault(k, at, "is given twice; the first is in line %d", line)
			continue
		} else if twice {
			d.warn(k, at, "is given twice; the first, in line %d, does not count", line)
		}
		first[k.Value] = k.Line
		d.notePlace(at, k)
		do(k.Value, value, at)
	}
}

func (d *decoder) handleUnknownKey(key string, value *yaml.Node, path, at string, known []form.Member, depth int) {
	if d.lenient {
		if d.extras[path] == nil {
			d.extras[path] = map[string]any{}
		}
		d.extras[path][key] = d.decodeGeneric(value, at, depth+1)
		return
	}
	name, message := NameParse, "is not a known key here"
	switch {
	case path == "" && key == "hostConfiguration":
		name, message = NameOldStyle, "is the old style: remove this key and move the keys below it to the top level"
	case path == "" && key == "allowedOperations":
		name, message = NameAllowedOperations, "does not belong here: give the allowed operations to the command, with --allowed-operations"
	case path == "trident" && key == "tracestream":
		message += ": Trident does not send traces to a URL yet"
	default:
		if near := nearestKey(key, known); near != "" {
			message += "; did you mean " + near + "?"
		}
	}
	d.addFault(d.places.at(at), at, name, "%s", message)
}

// decodeHealthCheck decodes a mapping in one of two forms: a SystemdCheck if it has the
// key systemdServices, else a Script.
func (d *decoder) decodeHealthCheck(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		d.addKindFault(n, v.Type(), path)
		return
	}
	check := HealthCheck{Script: &Script{}}
	fields := reflect.ValueOf(check.Script).Elem()
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == systemdKey {
			check = HealthCheck{Systemd: &SystemdCheck{}}
			fields = reflect.ValueOf(check.Systemd).Elem()
		}
	}
	d.inCheck = true
	d.decodeStructure(n, fields, path, depth)
	d.inCheck = false
	v.Set(reflect.ValueOf(check))
}

// decodeGeneric decodes a value that has no Go type of its own, such as netplan's. A
// whole number that Go would write in another form, such as 007, stays text, so that
// YAML writes it unchanged.
func (d *decoder) decodeGeneric(n *yaml.Node, path string, depth int) any {
	n, ok := d.enter(n, path, depth)
	if !ok {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		out := make(map[string]any, len(n.Content)/2)
		rule := anyKeys
		if strings.HasPrefix(path, "internalParams") && depth > 1 && !d.lenient {
			rule = uniqueKeys
		}
		d.eachPair(n, path, rule, func(key string, value *yaml.Node, at string) { out[key] = d.decodeGeneric(value, at, depth+1) })
		return out
	case yaml.SequenceNode:
		out := make([]any, len(n.Content))
		for i, item := range n.Content {
			at := path + "[" + strconv.Itoa(i) + "]"
			d.notePlace(at, item)
			out[i] = d.decodeGeneric(item, at, depth+1)
		}
		return out
	}
	return genericScalar(n)
}

// setDefaults sets all keys of v to their defaults.
func setDefaults(v reflect.Value) {
	for _, m := range form.Members(v.Type()) {
		setDefault(m, v.Field(m.Index))
	}
}

func setDefault(m form.Member, v reflect.Value) {
	switch {
	case v.Kind() == reflect.Struct:
		setDefaults(v)
	case m.Default != "":
		// Only a wrong tag in this package gets here; a test decodes an empty mapping for every type.
		if err := setScalar(v, m.Default, form.KindOfText(m.Default)); err != nil {
			panic("hostconfig: default of " + m.Key + " " + err.Error())
		}
	}
}

// systemdKey makes a health check a SystemdCheck.
const systemdKey = "systemdServices"

// emptyPath replaces a path that the document gives as "", as in path.Clean.
const emptyPath = "."
