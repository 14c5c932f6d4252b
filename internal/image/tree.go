package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	maxDepth  = 32      // of objects and arrays in metadata.json; the format has 6
	maxValues = 1 << 20 // in metadata.json, members of objects and arrays alike
)

// decodeTree reads one JSON value into map[string]any, []any, string,
// json.Number, bool and nil. Unlike encoding/json it minds the case of names and
// refuses a name that comes twice: of two readers, each would believe another.
func decodeTree(data []byte) (any, error) {
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
			return nil, fmt.Errorf("%.64q is there twice", name)
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
