package envelope

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// deepest returns how deep arrays and objects nest. It allocates no memory, so Parse calls it
// before any decoder. For bytes that are not JSON the number means nothing.
func deepest(data []byte) int {
	depth, most, inText := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '[' || c == '{':
			depth++
			most = max(most, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return most
}

// check fails unless data is one value of JSON in UTF-8 (RFC 8259, 8.1).
func check(data []byte) *Error {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return Errorf(ParseError, "read the request: it is empty")
	case !utf8.Valid(data):
		return Errorf(ParseError, "read the request: it is not UTF-8")
	case json.Valid(data):
		return nil
	}
	var v any
	return Errorf(ParseError, "read the request: it is not JSON: %v", json.Unmarshal(data, &v))
}

// membersOf returns the members of an object, by their exact names. Two members of one name
// are a fault, because programs disagree about which of them counts (RFC 8259, 4). Members
// that JSON-RPC does not have are ignored.
func membersOf(data json.RawMessage) (map[string]json.RawMessage, *Error) {
	if data[0] != '{' {
		return nil, Errorf(InvalidRequest, "read the request: it is not an object")
	}
	out := make(map[string]json.RawMessage, 4)
	d := json.NewDecoder(bytes.NewReader(data))
	_, err := d.Token() // the brace
	for err == nil && d.More() {
		var key json.Token
		if key, err = d.Token(); err != nil {
			break
		}
		var value json.RawMessage
		if err = d.Decode(&value); err != nil {
			break
		}
		name, _ := key.(string)
		switch name {
		case "jsonrpc", "method", "params", "id":
		default:
			continue
		}
		if out[name] != nil {
			return nil, Errorf(InvalidRequest, "read the request: it has %s twice", name)
		}
		out[name] = value
	}
	if err != nil {
		return nil, Errorf(InvalidRequest, "read the request: %v", err)
	}
	return out, nil
}
