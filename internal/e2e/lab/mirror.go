package lab

import (
	"bufio"
	"io/fs"
	"slices"
	"strings"
)

const defaultMirror = "http://deb.debian.org/debian"

// mirror returns the Debian archive that apt uses on this machine, so that a machine behind
// a mirror needs no further setting. etc is /etc/apt.
func mirror(etc fs.FS) string {
	names := []string{"sources.list"}
	for _, pattern := range []string{"sources.list.d/*.sources", "sources.list.d/*.list"} {
		found, err := fs.Glob(etc, pattern)
		if err == nil {
			names = append(names, found...)
		}
	}
	for _, name := range names {
		data, err := fs.ReadFile(etc, name)
		if err != nil {
			continue
		}
		find := mirrorInList
		if strings.HasSuffix(name, ".sources") {
			find = mirrorInDeb822
		}
		if uri := find(string(data)); uri != "" {
			return uri
		}
	}
	return defaultMirror
}

// mirrorInList reads sources.list(5), one-line style.
func mirrorInList(text string) string {
	for line := range strings.Lines(text) {
		if i := strings.IndexByte(line, '#'); i >= 0 {
			line = line[:i]
		}
		if open, end := strings.IndexByte(line, '['), strings.IndexByte(line, ']'); open >= 0 && end > open {
			line = line[:open] + line[end+1:]
		}
		f := strings.Fields(line)
		if len(f) >= 4 && f[0] == "deb" && isArchive(f[1], f[2:3], f[3:]) {
			return strings.TrimSuffix(f[1], "/")
		}
	}
	return ""
}

// mirrorInDeb822 reads sources.list(5), deb822 style. Continuation lines are
// not joined: they only occur in keys and long lists.
func mirrorInDeb822(text string) string {
	for stanza := range strings.SplitSeq(text, "\n\n") {
		fields := map[string][]string{}
		for s := bufio.NewScanner(strings.NewReader(stanza)); s.Scan(); {
			if name, value, ok := strings.Cut(s.Text(), ":"); ok && !strings.HasPrefix(name, "#") {
				fields[strings.ToLower(name)] = strings.Fields(value)
			}
		}
		if !slices.Contains(fields["types"], "deb") || slices.Contains(fields["enabled"], "no") {
			continue
		}
		for _, uri := range fields["uris"] {
			if isArchive(uri, fields["suites"], fields["components"]) {
				return strings.TrimSuffix(uri, "/")
			}
		}
	}
	return ""
}

// isArchive reports whether an entry is Debian's main archive, which has a plain suite, and
// not security, backports or another vendor's repository.
func isArchive(uri string, suites, components []string) bool {
	plain := []string{"bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable"}
	isPlain := func(s string) bool { return slices.Contains(plain, s) }
	return strings.HasPrefix(uri, "http") && slices.ContainsFunc(suites, isPlain) && slices.Contains(components, "main")
}
