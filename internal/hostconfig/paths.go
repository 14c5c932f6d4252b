package hostconfig

import "strings"

// The functions here take a path apart as upstream does: slashes at the end and
// "." components do not count, and a file name that begins with its only dot
// has no extension.

// emptyPath is what a path that is given and empty becomes: the folder itself, as for path.Clean.
const emptyPath = "."

func hasDotDot(p string) bool {
	return strings.Contains("/"+p+"/", "/../")
}

// fileName is the last component of p, or "" when p has none.
func fileName(p string) string {
	p = trimPath(p)
	name := p[strings.LastIndexByte(p, '/')+1:]
	if name == "." || name == ".." {
		return ""
	}
	return name
}

// folder is p without its last component, otherwise as it is written.
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

// extension is what stands behind the last dot of the file name of p.
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
