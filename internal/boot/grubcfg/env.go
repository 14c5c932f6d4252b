package grubcfg

import (
	"io/fs"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// environment has the variables of GRUB: those of the environment block (grubenv) and of
// files that the script loads, which win if they are not empty, and those that the script
// sets. The script sets them under conditions that only GRUB knows, so two values of a
// variable of the kernel's line are an error.
type environment struct {
	boot   fs.FS
	loaded map[string]string
	set    map[string][]word
	known  map[string]string // values that are computed already
}

func newEnvironment(boot fs.FS) *environment {
	e := &environment{boot: boot, loaded: map[string]string{}, set: map[string][]word{}, known: map[string]string{}}
	for _, name := range []string{"grub/grubenv", "grub2/grubenv"} {
		if text, err := readFile(boot, name, maxEnv); err == nil {
			e.load(text)
		}
	}
	return e
}

// load reads lines of NAME=VALUE. A backslash quotes the next byte (GRUB manual, "The GRUB
// environment block").
func (e *environment) load(text string) {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		if !ok || !isName(key) {
			continue
		}
		var out strings.Builder
		for i := 0; i < len(value); i++ {
			if value[i] == '\\' && i+1 < len(value) {
				i++
			}
			out.WriteByte(value[i])
		}
		e.loaded[key] = out.String()
	}
}

// read takes the variables that a script sets or loads outside of its functions.
func (e *environment) read(s *script) error {
	for _, c := range s.commands {
		if c.isIn("function") || len(c.words) < 2 {
			continue
		}
		switch c.name() {
		case "set":
			if key, value, ok := c.words[1].assignment(); ok {
				e.set[key] = append(e.set[key], value)
			}
		case "load_env":
			if err := e.loadFile(c.words[1:]); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadFile loads the file of load_env -f FILE or load_env --file=FILE; GRUB ignores a
// missing file.
func (e *environment) loadFile(args []word) error {
	words, err := e.expandAll(args)
	if err != nil {
		return err
	}
	name := ""
	for i, w := range words {
		if file, ok := strings.CutPrefix(w, "--file="); ok {
			name = file
		} else if (w == "-f" || w == "--file") && i+1 < len(words) {
			name = words[i+1]
		}
	}
	if name == "" {
		return nil
	}
	at, err := fileOf(e.boot, name)
	if err != nil {
		return nil //nolint:nilerr // as GRUB does
	}
	text, err := readFile(e.boot, at, maxEnv)
	if err == nil {
		e.load(text)
	}
	return err
}

// assignment splits NAME=VALUE.
func (w word) assignment() (key string, value word, ok bool) {
	for i, p := range w {
		if p.isVar || p.quoted {
			return "", nil, false
		}
		if p.text == "=" {
			return key, w[i+1:], isName(key)
		}
		key += p.text
	}
	return "", nil, false
}

// expandAll returns the words as a command of GRUB gets them.
func (e *environment) expandAll(words []word) ([]string, error) {
	var out []string
	for _, w := range words {
		more, err := e.expand(w)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

func (e *environment) expand(w word) ([]string, error) {
	var out []string
	var now strings.Builder
	begun := false
	for _, p := range w {
		if !p.isVar {
			now.WriteString(p.text)
			begun = begun || p.text != "" || p.quoted
			continue
		}
		value, err := e.value(p.text, 0)
		if err != nil {
			return nil, err
		}
		if p.quoted {
			now.WriteString(value)
			begun = true
			continue
		}
		for i, field := range strings.Fields(value) {
			if i > 0 {
				out = append(out, now.String())
				now.Reset()
			}
			now.WriteString(field)
			begun = true
		}
	}
	if begun {
		out = append(out, now.String())
	}
	return out, nil
}

// Limits on variables whose values have variables.
const (
	maxNesting = 8
	maxValue   = 16 << 10 // bytes
)

func (e *environment) value(name string, depth int) (string, error) {
	if v := e.loaded[name]; v != "" {
		return v, nil
	}
	if v, ok := e.known[name]; ok {
		return v, nil
	}
	if depth > maxNesting {
		return "", errkind.Errorf(errkind.Invalid, "the variable %s has itself in its value", name)
	}
	value, isSet := "", false // "" if nobody sets it, as in GRUB
	for _, w := range e.set[name] {
		var out strings.Builder
		for _, p := range w {
			text := p.text
			if p.isVar {
				var err error
				if text, err = e.value(p.text, depth+1); err != nil {
					return "", err
				}
			}
			if out.Len()+len(text) > maxValue {
				return "", errkind.Errorf(errkind.TooLarge, "the variable %s has more than %d bytes", name, maxValue)
			}
			out.WriteString(text)
		}
		if isSet && value != out.String() {
			return "", errkind.Errorf(errkind.Invalid, "the script sets the variable %s to %q and to %q, and only GRUB knows which one has effect", name, value, out.String())
		}
		value, isSet = out.String(), true
	}
	e.known[name] = value
	return value, nil
}
