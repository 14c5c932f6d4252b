package rules

import "strings"

// The functions of this file split paths as upstream does: they ignore slashes and "."
// components at the end, and a file name whose only dot is its first character has no
// extension.

func hasDotDot(p string) bool {
	return strings.Contains("/"+p+"/", "/../")
}

// fileName returns the last component of p, or "" if that is "." or "..".
func fileName(p string) string {
	p = trimPath(p)
	name := p[strings.LastIndexByte(p, '/')+1:]
	if name == "." || name == ".." {
		return ""
	}
	return name
}

// folder returns p without its last component, otherwise unchanged.
func folder(p string) string {
	p = trimPath(p)
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return ""
	}
	if dir := trimPath(p[:i]); dir != "" {
		return dir
	}
	return "/"
}

// extension returns the part of the file name of p after the last dot, or "".
func extension(p string) string {
	name := fileName(p)
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		return name[i+1:]
	}
	return ""
}

func trimPath(p string) string {
	for {
		switch {
		case strings.HasSuffix(p, "/"):
			p = p[:len(p)-1]
		case strings.HasSuffix(p, "/."):
			p = p[:len(p)-2]
		default:
			return p
		}
	}
}
