// Package form has helpers for the syntax of a Host Configuration that its packages share:
// the keys of a Go type (from its tags), the kinds of YAML scalars, and the paths in
// findings. It knows nothing of the meaning of keys.
package form
