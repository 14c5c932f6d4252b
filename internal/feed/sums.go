package feed

import (
	"bytes"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/trident-project/trident/internal/errkind"
)

// MaxSums is the most bytes of a SHA256SUMS file, and maxSumName the most bytes of a name in it.
const (
	MaxSums    = 1 << 20
	maxSumName = 255
)

// Sums is the content of a SHA256SUMS file: the SHA-256 of each file by its name, as 64
// lower-case hexadecimal digits.
type Sums map[string]string

// ParseSums reads a SHA256SUMS file, and refuses every file that systemd-sysupdate 257
// refuses as a whole: one with a path, a control character, a NUL, a backslash at the begin
// of a line, text that is not UTF-8, or a last line without a newline. It also refuses a
// name that occurs twice. The kind of its errors is Corrupt, or TooLarge.
func ParseSums(data []byte) (Sums, error) {
	if len(data) > MaxSums {
		return nil, errkind.Errorf(errkind.TooLarge, "read %s: the file has %d bytes, at most %d are permitted", SumsFile, len(data), MaxSums)
	}
	sums := Sums{}
	for line := 1; len(data) > 0; line++ {
		text, rest, complete := bytes.Cut(data, []byte("\n"))
		data = rest
		if !complete {
			return nil, badLine(line, "the line has no newline at its end")
		}
		name, hash, fault := parseLine(string(text))
		if _, twice := sums[name]; fault == "" && twice {
			fault = "the name occurs twice"
		}
		if fault != "" {
			return nil, badLine(line, fault)
		}
		sums[name] = hash
	}
	return sums, nil
}

func badLine(line int, fault string) error {
	return errkind.WithHint(errkind.Errorf(errkind.Corrupt, "read %s: line %d: %s", SumsFile, line, fault),
		"A line is the SHA-256 of a file in 64 lower-case digits, two spaces, the name of the file and a newline, as sha256sum writes it.")
}

// parseLine splits a line without its newline. fault is "" if the line is sound.
func parseLine(line string) (name, hash, fault string) {
	if strings.HasPrefix(line, `\`) {
		return "", "", "it begins with a backslash, which is sha256sum's mark for an escaped name"
	}
	const digits = 64
	if len(line) < digits+2 || line[digits] != ' ' || line[digits+1] != ' ' && line[digits+1] != '*' {
		return "", "", "the hash and the name are not separated by two spaces, or by a space and an asterisk"
	}
	name, hash = line[digits+2:], line[:digits]
	if !isHash(hash) {
		return "", "", "it does not begin with a SHA-256 in 64 lower-case hexadecimal digits"
	}
	return name, hash, nameFault(name)
}

// nameFault returns why systemd-sysupdate or this package refuses name; "" for a sound name.
func nameFault(name string) string {
	switch {
	case name == "":
		return "the name is empty"
	case len(name) > maxSumName:
		return "the name has more than 255 bytes"
	case name == "." || name == "..":
		return "the name is . or .."
	case !utf8.ValidString(name):
		return "the name is not UTF-8"
	case strings.Contains(name, "/"):
		return "the name has a slash; systemd-sysupdate 257 then refuses the whole file"
	case strings.HasSuffix(name, "\r"):
		return "the line ends with a carriage return (CRLF); a line must end with a newline only"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "the name has a control character"
	}
	return ""
}

// Bytes returns the SHA256SUMS file, in the order of the names. It refuses a name or a hash
// that ParseSums refuses.
func (s Sums) Bytes() ([]byte, error) {
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fault := nameFault(name)
		if fault == "" && !isHash(s[name]) {
			fault = "the hash is not a SHA-256 in 64 lower-case hexadecimal digits"
		}
		if fault != "" {
			return nil, errkind.Errorf(errkind.Invalid, "write %s: file %.300q: %s", SumsFile, name, fault)
		}
		out.WriteString(s[name] + "  " + name + "\n")
	}
	if out.Len() > MaxSums {
		return nil, errkind.Errorf(errkind.TooLarge, "write %s: the file would have %d bytes, at most %d are permitted", SumsFile, out.Len(), MaxSums)
	}
	return out.Bytes(), nil
}

// isHash reports whether text is a SHA-256 in lower-case hexadecimal digits.
func isHash(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == 32 && strings.ToLower(text) == text
}
