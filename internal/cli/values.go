package cli

import "strings"

// withValues returns a command line in which each flag to which upstream gives several
// values, or none, has them in one word: --allowed-operations stage finalize becomes
// --allowed-operations=stage,finalize, and --allowed-operations alone becomes
// --allowed-operations=.
func withValues(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(out, args[i:]...)
		}
		isValue := moreValues(args[i])
		if isValue == nil {
			out = append(out, args[i])
			continue
		}
		var values []string
		flag := args[i]
		// The first word is always a value, so that a wrong one is an error.
		for i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") && (len(values) == 0 || isValue(args[i+1])) {
			i++
			values = append(values, args[i])
		}
		out = append(out, flag+"="+strings.Join(values, ","))
	}
	return out
}

// moreValues returns a function that reports whether a word is one more value of a flag; nil
// for a flag with one value.
func moreValues(flag string) func(string) bool {
	switch flag {
	case "--allowed-operations":
		return func(word string) bool {
			for part := range strings.SplitSeq(word, ",") {
				if part = strings.TrimSpace(part); part != "" && part != "stage" && part != "finalize" {
					return false
				}
			}
			return true
		}
	case "--lazy-partitions":
		return func(word string) bool { return strings.Contains(word, ":") }
	}
	return nil
}
