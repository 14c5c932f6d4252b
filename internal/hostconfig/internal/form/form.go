// Package form is what the packages of the Host Configuration share about the form of a
// document, whatever the document says: the keys that a Go type has by its tags, the kinds
// of YAML's scalars, and the paths that findings name.
package form
