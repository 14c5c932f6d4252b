package form

import (
	"path"
	"strings"
	"unicode"
)

// Join returns the path of key in the mapping at the path at. It quotes a key with blanks, dots,
// brackets or quotation marks.
func Join(at, key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`.[]"`, r) }) {
		return at + `["` + Shorten(key) + `"]`
	}
	if at == "" {
		return Shorten(key)
	}
	return at + "." + Shorten(key)
}

// Parent returns at without its last key or index.
func Parent(at string) string {
	for i := len(at) - 1; i > 0; i-- {
		if at[i] == '.' || at[i] == '[' {
			return at[:i]
		}
	}
	return ""
}

// Within reports whether at is section, or below it.
func Within(at, section string) bool {
	for ; at != ""; at = Parent(at) {
		if at == section {
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

// CleanPath returns p, a path of the host, as an absolute path in its shortest form, or "" for "".
func CleanPath(p string) string {
	if p == "" {
		return ""
	}
	return path.Clean("/" + p)
}
