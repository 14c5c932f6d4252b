// Package envelope reads and writes the messages of JSON-RPC 2.0
// (https://www.jsonrpc.org/specification): requests, notifications, batches, and their
// answers. It knows neither methods nor connections.
//
// The sender of a message may not have logged in. The package bounds the nesting of a message and
// the length of an id; the code that receives messages bounds their size.
package envelope

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Codes of errors that JSON-RPC reserves (specification, 5.1).
const (
	ParseError     = -32700
	InvalidRequest = -32600
	MethodNotFound = -32601
	InvalidParams  = -32602
	InternalError  = -32603
)

// Bounds of a message.
const (
	// MaxDepth is how deep arrays and objects may nest, the batch and the request included.
	MaxDepth = 32
	maxID    = 256 // bytes
)

// An Error is the member error of an answer.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	// Data is for programs; nil for an error of the envelope.
	Data any `json:"data,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Errorf returns an error with a code.
func Errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// A Request is one call or notification.
type Request struct {
	Method string
	// Params is an array or an object; nil if the request has none.
	Params json.RawMessage
	// ID is the id as it was sent; nil for a notification.
	ID json.RawMessage
	// Fault says why the request is invalid; nil for a valid one. An invalid request is answered
	// with this error, even if it has no id.
	Fault *Error
}

// IsNotification reports whether nobody expects an answer.
func (r *Request) IsNotification() bool { return r.ID == nil && r.Fault == nil }

// A Message is the content of one HTTP request or of one WebSocket message.
type Message struct {
	Requests []Request
	IsBatch  bool
}

// Parse reads a message. It fails if the message as a whole is invalid; the answer is then that
// error with the id null. A single invalid request has its error in Fault.
func Parse(data []byte) (*Message, *Error) {
	if deepest(data) > MaxDepth {
		return nil, Errorf(InvalidRequest, "read the request: arrays and objects nest deeper than %d", MaxDepth)
	}
	if fault := check(data); fault != nil {
		return nil, fault
	}
	data = bytes.TrimLeft(data, " \t\r\n")
	if data[0] != '[' {
		return &Message{Requests: []Request{parse(data)}}, nil
	}
	var members []json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, Errorf(ParseError, "read the batch: %v", err)
	}
	if len(members) == 0 {
		return nil, Errorf(InvalidRequest, "read the batch: it is empty")
	}
	m := &Message{IsBatch: true, Requests: make([]Request, 0, len(members))}
	for _, member := range members {
		m.Requests = append(m.Requests, parse(member))
	}
	return m, nil
}

// parse reads one request of valid JSON.
func parse(data json.RawMessage) Request {
	f, fault := membersOf(data)
	if fault != nil {
		return Request{Fault: fault}
	}
	r := Request{ID: f["id"], Params: f["params"]}
	if r.ID != nil && !isID(r.ID) {
		return Request{Fault: Errorf(InvalidRequest, "read the request: its id is not a string of at most %d bytes, a number or null", maxID)}
	}
	version, ok := textOf(f["jsonrpc"])
	if !ok || version != "2.0" {
		r.Fault = Errorf(InvalidRequest, `read the request: jsonrpc is not "2.0"`)
		return r
	}
	if r.Method, ok = textOf(f["method"]); !ok {
		r.Fault = Errorf(InvalidRequest, "read the request: method is not a string")
		return r
	}
	if r.Params != nil && r.Params[0] != '[' && r.Params[0] != '{' {
		r.Fault = Errorf(InvalidRequest, "read the request: params is neither an array nor an object")
	}
	return r
}

func textOf(data json.RawMessage) (string, bool) {
	if len(data) == 0 || data[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(data, &s)
	return s, err == nil
}

func isID(data json.RawMessage) bool {
	c := data[0]
	return len(data) <= maxID && (c == '"' || c == '-' || c >= '0' && c <= '9' || c == 'n')
}
