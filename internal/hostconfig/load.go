package hostconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// Limits on a document, far above what any host needs.
const (
	maxText    = 1 << 20 // bytes, as given and as written by YAML
	maxRecord  = 4 << 20 // bytes of a recorded one: other releases write longer forms
	maxDepth   = 64      // levels of nesting, aliases followed
	maxNodes   = 200_000 // keys and values, those reached by aliases counted again
	maxAliases = 1000
	maxFaults  = 200 // findings; the rest is reported once these are corrected
)

// fatal is a fault that ends the reading of a text.
type fatal struct {
	place
	message string
}

// load parses text, of at most most bytes, and returns the root of its one document, or nil if it has no content.
func load(text []byte, most int) (*yaml.Node, *fatal) {
	if len(text) > most {
		return nil, &fatal{message: fmt.Sprintf("is larger than %d KiB", most>>10)}
	}
	if f := findBadText(text); f != nil {
		return nil, f
	}
	loader, err := yaml.NewLoader(bytes.NewReader(olderDirective(text)), yaml.WithV4Defaults(), yaml.WithUniqueKeys(false),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, &fatal{message: err.Error()}
	}
	var document, second yaml.Node
	err = loader.Load(&document)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, syntaxFault(text, err)
	}
	switch err := loader.Load(&second); {
	case err == nil:
		return nil, &fatal{placeOf(&second), "starts a second document; there may be one only"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxFault(text, err)
	}
	if len(document.Content) != 1 {
		return nil, nil
	}
	return document.Content[0], nil
}

// olderDirective returns text with %YAML 1.1 in place of %YAML 1.2 before the document,
// because the library refuses 1.2, although it reads by the rules of 1.2. Lines and
// columns stay the same.
func olderDirective(text []byte) []byte {
	at := 0
	for line := range bytes.Lines(text) {
		begin := at
		at += len(line)
		trimmed := bytes.TrimPrefix(line, []byte("\ufeff"))
		directive := bytes.Fields(trimmed)
		switch {
		case len(directive) == 0, directive[0][0] == '#':
		case trimmed[0] != '%':
			return text
		case len(directive) > 1 && string(directive[0]) == "%YAML" && string(directive[1]) == "1.2":
			out := bytes.Clone(text)
			out[begin+bytes.Index(line, []byte("1.2"))+2] = '1'
			return out
		}
	}
	return text
}

// findBadText finds bytes that a YAML document must not have, because the library reports no place for them.
func findBadText(text []byte) *fatal {
	line, column := 1, 1
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return &fatal{place{line: line, column: column}, fmt.Sprintf("is not UTF-8: byte 0x%02x", text[i])}
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			return &fatal{place{line: line, column: column}, fmt.Sprintf("has the control character U+%04X; in a quoted string it is written \\x%02x", r, r)}
		case r == '\n':
			line, column = line+1, 0
		}
		column++
		i += n
	}
	return nil
}

// syntaxFault returns the place and the cause of err, a syntax error of the library in text.
func syntaxFault(text []byte, err error) *fatal {
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return &fatal{message: "is not YAML: " + err.Error()}
	}
	f := &fatal{place{line: e.Mark.Line, column: e.Mark.Column}, "is not YAML: " + e.Message}
	if e.Mark.Line == 0 {
		f.place = place{line: e.ContextMark.Line, column: e.ContextMark.Column}
	}
	if lines := bytes.Split(text, []byte("\n")); f.line > 0 && f.line <= len(lines) {
		line := lines[f.line-1]
		if indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]; bytes.ContainsRune(indent, '\t') {
			f.message = "is not YAML: a tab in the indentation, where only spaces are allowed"
		}
	}
	return f
}
