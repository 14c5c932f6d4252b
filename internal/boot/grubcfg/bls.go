package grubcfg

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// entriesDir is the folder of the entries of the Boot Loader Specification (UAPI.1), below
// /boot.
const entriesDir = "loader/entries"

// newestEntry returns the kernel of the entry with the highest version that is not for
// rescue; found is false if there is none.
func newestEntry(boot fs.FS, env *environment) (k Kernel, found bool, err error) {
	names, err := entryNames(boot)
	if err != nil {
		return k, false, err
	}
	best, text := "", ""
	for _, name := range names {
		id, ok := strings.CutSuffix(name, ".conf")
		if !ok || isForRescue(id) || found && compareVersions(id, best) <= 0 {
			continue
		}
		content, err := readFile(boot, path.Join(entriesDir, name), maxEntry)
		if err != nil {
			return k, false, err
		}
		if isForRescue(field(content, "title")) {
			continue
		}
		best, text, found = id, content, true
	}
	if !found {
		return k, false, nil
	}
	if k, err = readEntry(boot, env, text); err != nil {
		return k, true, fmt.Errorf("%s/%s.conf: %w", entriesDir, best, err)
	}
	return k, true, nil
}

func entryNames(boot fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(boot, entriesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(entries) > maxEntries {
		return nil, errkind.Errorf(errkind.TooLarge, "%s has more than %d entries", entriesDir, maxEntries)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// field returns the values of a key of an entry, with a space between them.
func field(text, key string) string {
	var values []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if i := strings.IndexAny(line, " \t"); i > 0 && line[:i] == key {
			values = append(values, strings.TrimSpace(line[i:]))
		}
	}
	return strings.Join(values, " ")
}

func readEntry(boot fs.FS, env *environment, text string) (Kernel, error) {
	words := map[string][]string{}
	for _, key := range []string{"linux", "initrd", "options"} {
		s, err := parse(field(text, key)) // GRUB runs the values as a part of a script
		if err != nil {
			return Kernel{}, fmt.Errorf("%s: %w", key, err)
		}
		if len(s.commands) > 1 {
			return Kernel{}, errkind.Errorf(errkind.Invalid, "%s has a character that ends a command of GRUB", key)
		}
		for _, c := range s.commands {
			if words[key], err = env.expandAll(c.words); err != nil {
				return Kernel{}, fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	if len(words["linux"]) != 1 {
		return Kernel{}, errkind.Errorf(errkind.Invalid, "it does not name one kernel")
	}
	return newKernel(boot, words["linux"][0], words["initrd"], words["options"])
}

// compareVersions orders names as GRUB orders entries: numbers in them by value, a number
// after letters, ~ before everything.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		a, b = strings.TrimLeftFunc(a, separator), strings.TrimLeftFunc(b, separator)
		if tildeA, tildeB := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~"); tildeA || tildeB {
			if tildeA != tildeB {
				return map[bool]int{true: -1, false: 1}[tildeA]
			}
			a, b = a[1:], b[1:]
			continue
		}
		var partA, partB string
		partA, a = segment(a)
		partB, b = segment(b)
		digitA, digitB := isDigit(partA), isDigit(partB)
		switch {
		case partA == "" || partB == "":
			return strings.Compare(partA, partB)
		case digitA != digitB:
			return map[bool]int{true: 1, false: -1}[digitA]
		case digitA:
			partA, partB = strings.TrimLeft(partA, "0"), strings.TrimLeft(partB, "0")
			if len(partA) != len(partB) {
				return len(partA) - len(partB)
			}
		}
		if c := strings.Compare(partA, partB); c != 0 {
			return c
		}
	}
	return 0
}

func separator(r rune) bool {
	return r != '~' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

func isDigit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

// segment cuts the digits or the letters at the start of s.
func segment(s string) (head, rest string) {
	i := 0
	for i < len(s) && s[i] != '~' && !separator(rune(s[i])) && isDigit(s[i:]) == isDigit(s) {
		i++
	}
	return s[:i], s[i:]
}
