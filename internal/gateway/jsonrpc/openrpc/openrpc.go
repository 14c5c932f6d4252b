// Package openrpc describes methods as an OpenRPC document (https://spec.open-rpc.org, 1.2.6),
// and messages of the API as JSON Schema draft 7, in the form in which protojson writes them.
package openrpc

// Version is the version of the OpenRPC specification of a document: the newest one that all of
// its tools accept. open-rpc-test-coverage 2.2.4 refuses 1.3.2.
const Version = "1.2.6"

// A Schema is a JSON Schema.
type Schema map[string]any

// A Content describes a parameter or a result.
type Content struct {
	Name     string `json:"name"`
	Summary  string `json:"summary,omitempty"`
	Required bool   `json:"required,omitempty"`
	Schema   Schema `json:"schema"`
}

// A Method describes one method. Required parameters precede the others.
type Method struct {
	Name           string    `json:"name"`
	Summary        string    `json:"summary"`
	ParamStructure string    `json:"paramStructure"`
	Params         []Content `json:"params"`
	Result         Content   `json:"result"`
	Errors         []Error   `json:"errors,omitempty"`
	// Right is the right that the caller needs; empty for a method that needs no login.
	Right string `json:"x-right,omitempty"`
}

// An Error is one that a method can answer with.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// A Server is where methods are called.
type Server struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// An Info says what a document describes.
type Info struct {
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	Version     string `json:"version"`
}

// A Document is an OpenRPC document.
type Document struct {
	OpenRPC    string     `json:"openrpc"`
	Info       Info       `json:"info"`
	Servers    []Server   `json:"servers,omitempty"`
	Methods    []Method   `json:"methods"`
	Components Components `json:"components"`
}

// Components has the schemas to which others refer.
type Components struct {
	Schemas map[string]Schema `json:"schemas"`
}
