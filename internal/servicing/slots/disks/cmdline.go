package disks

import "strings"

// cmdline has the arguments of a kernel, in their order and without quotes.
type cmdline []string

// parseCmdline splits the command line of a kernel at blanks that are not between double
// quotes (kernel: Documentation/admin-guide/kernel-parameters.rst).
func parseCmdline(text string) cmdline {
	quoted := false
	var out cmdline
	for _, word := range strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	}) {
		out = append(out, strings.ReplaceAll(word, `"`, ""))
	}
	return out
}

// last returns the value of the last argument that begins with prefix, such as "roothash=":
// the one that counts.
func (c cmdline) last(prefix string) (value string, is bool) {
	for _, word := range c {
		if v, ok := strings.CutPrefix(word, prefix); ok {
			value, is = v, true
		}
	}
	return value, is
}
