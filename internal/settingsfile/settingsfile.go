// Package settingsfile reads the YAML files in which people write settings for Trident: each
// is one document of a bounded size, in which each key is known and there once.
//
// A package that has such a file says with [Keys] which keys it has, and what reads each
// value:
//
//	err := doc.Read(settingsfile.Keys{
//		"listen": settingsfile.Texts(&c.Listen),
//		"tls":    settingsfile.Mapping(settingsfile.Keys{"key": settingsfile.Text(&c.TLS.Key)}),
//	})
//
// A fault of a file is an error of kind Invalid, and TooLarge for its size. It has the line
// and the path of keys, as in "line 3: tls.key: has no value". The caller adds the path of the
// file.
package settingsfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	"github.com/trident-project/trident/internal/errkind"
)

// maxDepth is deeper than any file without a fault.
const maxDepth = 16

// A Format says what a kind of file may have.
type Format struct {
	// MaxBytes is the largest size of a file, in bytes.
	MaxBytes int
	// Foreign is set for a file that programs of others read too, because they accept more:
	// aliases are resolved, a key without a value counts as missing, and Foreign is called with
	// the fault of each unknown key, which is ignored.
	Foreign func(fault error)
}

// A Document is the content of a file. One without a value, such as a file of comments, is
// empty, and reads as a mapping without keys.
type Document struct {
	root Value
	node *yaml.Node
}

// Parse returns the only document of a text.
func Parse(text []byte, format Format) (*Document, error) {
	if len(text) > format.MaxBytes {
		return nil, errkind.Errorf(errkind.TooLarge, "the file has more than %d bytes", format.MaxBytes)
	}
	if !utf8.Valid(text) {
		return nil, errkind.Errorf(errkind.Invalid, "the text is not UTF-8")
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text), yaml.WithV4Defaults(), yaml.WithUniqueKeys(false),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, err
	}
	var first, second yaml.Node
	if err := loader.Load(&first); errors.Is(err, io.EOF) {
		return newDocument(&first, format), nil
	} else if err != nil {
		return nil, notYAML(err)
	}
	if err := loader.Load(&second); err == nil {
		return nil, errkind.Errorf(errkind.Invalid, "line %d: a second document begins, and the file must have one", second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, notYAML(err)
	}
	return newDocument(&first, format), nil
}

// notYAML returns the fault for an error of the YAML package.
func notYAML(err error) error {
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return errkind.With(errkind.Invalid, fmt.Errorf("the text is not YAML: %w", err))
	}
	return errkind.Errorf(errkind.Invalid, "line %d: the text is not YAML: %s", cmp.Or(e.Mark.Line, e.ContextMark.Line, 1), e.Message)
}

func newDocument(node *yaml.Node, format Format) *Document {
	root := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: 1}
	if len(node.Content) > 0 {
		root = node.Content[0]
	}
	return &Document{root: Value{node: root, line: root.Line, foreign: format.Foreign}, node: node}
}

// Read calls the functions of keys for the keys of the document, in the order of the file. It
// returns the first error.
func (d *Document) Read(keys Keys) error { return d.root.Read(keys) }

// IsEmpty reports whether the document has no value.
func (d *Document) IsEmpty() bool { return d.root.isNull() }

// Errorf returns a fault of the file as a whole.
func (d *Document) Errorf(format string, args ...any) error { return d.root.Errorf(format, args...) }

// Node returns the document with its comments, for a change of it.
func (d *Document) Node() *yaml.Node { return d.node }

// A Value is a value of a file.
type Value struct {
	node    *yaml.Node
	name    string // the key
	path    string // of keys, from the top
	line    int    // where the key is
	foreign func(error)
}

// Errorf returns a fault of the value: the line of its key, its path of keys and the text.
func (v Value) Errorf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if v.path == "" {
		return errkind.Errorf(errkind.Invalid, "line %d: the file %w", v.line, err)
	}
	return errkind.Errorf(errkind.Invalid, "line %d: %s: %w", v.line, v.path, err)
}

// Name returns the key of the value. The items of a list have that of the list.
func (v Value) Name() string { return v.name }

// IsMapping reports whether the value has keys and values.
func (v Value) IsMapping() bool { return v.node.Kind == yaml.MappingNode }

// IsList reports whether the value is a list.
func (v Value) IsList() bool { return v.node.Kind == yaml.SequenceNode }

func (v Value) isNull() bool { return v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!null" }

// Text returns the text of a value that is neither a list nor a mapping, as it is in the file:
// 02:00 is not a number. An empty text has to be in quotes.
func (v Value) Text() (string, error) {
	switch {
	case v.isNull():
		return "", v.Errorf("has no value")
	case v.node.Kind != yaml.ScalarNode:
		return "", v.Errorf("is not a text or a number")
	}
	return v.node.Value, nil
}

// List returns the values of a list. A key without a value has none.
func (v Value) List() (list []Value, err error) {
	if v.isNull() {
		return nil, nil
	}
	if !v.IsList() {
		return nil, errkind.WithHint(v.Errorf("is not a list"), "write [first, second]")
	}
	for i, item := range v.node.Content {
		one, err := Value{item, v.name, fmt.Sprintf("%s[%d]", v.path, i), item.Line, v.foreign}.resolve()
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

// resolve returns what an alias in a foreign file stands for, and any value that is not an
// alias as it is. It fails for other aliases.
func (v Value) resolve() (Value, error) {
	if v.node.Kind != yaml.AliasNode {
		return v, nil
	}
	if v.foreign == nil || v.node.Alias == nil {
		return v, v.Errorf("is an alias, which this file must not have")
	}
	v.node = v.node.Alias
	return v, nil
}
