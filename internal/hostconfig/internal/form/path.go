package form

import (
	"strings"
	"unicode"
)

// Join returns the path of key in the mapping at path. It quotes a key with blanks, dots,
// brackets or quotation marks.
func Join(path, key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`.[]"`, r) }) {
		return path + `["` + Shorten(key) + `"]`
	}
	if path == "" {
		return Shorten(key)
	}
	return path + "." + Shorten(key)
}

// Parent returns path without its last key or index.
func Parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '.' || path[i] == '[' {
			return path[:i]
		}
	}
	return ""
}

// Within reports whether path is section, or below it.
func Within(path, section string) bool {
	for ; path != ""; path = Parent(path) {
		if path == section {
			return true
		}
	}
	return false
}

// Shorten returns s for a message: on one line, at most 60 characters.
func Shorten(s string) string {
	const most = 60
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
