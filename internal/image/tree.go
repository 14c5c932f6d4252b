package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxDepth  = 32      // of objects and arrays in metadata.json; the format has 6
	maxValues = 1 << 20 // in metadata.json, members of objects and arrays alike
)

// decodeTree reads one JSON value into map[string]any, []any, string, json.Number, bool and
// nil. Unlike encoding/json it distinguishes the case of names, and refuses a name that
// occurs twice, because readers choose different values of it. It also refuses text that is
// not Unicode (RFC 8259, 8.1 and 8.2), which encoding/json would change.
func decodeTree(data []byte) (any, error) {
	if err := checkUnicode(data); err != nil {
		return nil, err
	}
	d := treeDecoder{json.NewDecoder(bytes.NewReader(data)), 0}
	d.UseNumber()
	v, err := d.value(0)
	if err != nil {
		return nil, d.explain(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("more follows the value that ends at byte %d", d.InputOffset())
	}
	return v, nil
}

type treeDecoder struct {
	*json.Decoder
	values int
}

func (d *treeDecoder) explain(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is cut short at byte %d", d.InputOffset())
	}
	return fmt.Errorf("at byte %d: %w", d.InputOffset(), err)
}

func (d *treeDecoder) value(depth int) (any, error) {
	if d.values++; d.values > maxValues {
		return nil, fmt.Errorf("there are more than %d values", maxValues)
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth >= maxDepth {
		return nil, fmt.Errorf("values are nested more than %d deep", maxDepth)
	}
	var out any
	if delim == '{' {
		out, err = d.members(depth)
	} else {
		out, err = d.elements(depth)
	}
	if err != nil {
		return nil, err
	}
	_, err = d.Token() // the closing bracket
	return out, err
}

func (d *treeDecoder) members(depth int) (map[string]any, error) {
	out := map[string]any{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("%.64q occurs twice", name)
		}
		if out[name], err = d.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (d *treeDecoder) elements(depth int) ([]any, error) {
	out := []any{}
	for d.More() {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// checkUnicode fails for bytes that are not UTF-8, and for an escape that is half of a
// surrogate pair: no other program would read the same text.
func checkUnicode(data []byte) error {
	if !utf8.Valid(data) {
		at := 0
		for r, n := utf8.DecodeRune(data); r != utf8.RuneError || n > 1; r, n = utf8.DecodeRune(data[at:]) {
			at += n
		}
		return fmt.Errorf("at byte %d: it is not UTF-8", at)
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		first := escapedRune(data[i:])
		i++ // skip the escaped character, which may be a backslash
		if !utf16.IsSurrogate(first) {
			continue
		}
		if utf16.DecodeRune(first, escapedRune(data[i+5:])) == utf8.RuneError {
			return fmt.Errorf("at byte %d: %s is half of a character", i-1, data[i-1:i+5])
		}
		i += 10
	}
	return nil
}

// escapedRune returns the value of an escape such as \u00e4 at the beginning of data, or -1.
func escapedRune(data []byte) rune {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(data[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}
