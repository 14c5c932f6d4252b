package grubcfg

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// script is a grub.cfg, as far as this package needs it: its commands, and the blocks that
// they are in (GRUB manual, section "Writing full configuration files directly").
type script struct{ commands []command }

// A command is a list of words, of which the first is the name.
type command struct {
	words  []word
	blocks []*block // that it is in, from the outside in
}

// A block is the body of a menuentry, a submenu or a function.
type block struct {
	name  string // of the command that it belongs to
	title string
}

// A word is a list of parts.
type word []part

// A part is text or, if isVar is set, the name of a variable. GRUB splits the value of a
// variable at spaces unless it is quoted.
type part struct {
	text          string
	isVar, quoted bool
}

// plain returns the text of a word without variables, or "".
func (w word) plain() string {
	var out strings.Builder
	for _, p := range w {
		if p.isVar {
			return ""
		}
		out.WriteString(p.text)
	}
	return out.String()
}

func (c command) name() string {
	if len(c.words) == 0 {
		return ""
	}
	return c.words[0].plain()
}

func (c command) isIn(name string) bool {
	return slices.ContainsFunc(c.blocks, func(b *block) bool { return b.name == name })
}

// keywords are the words that a command may follow on its line.
var keywords = []string{"if", "then", "elif", "else", "while", "until", "do", "!"}

// maxDepth is how deep blocks may be in each other.
const maxDepth = 32

// parse reads a script. It fails for quotes and blocks that do not end.
func parse(text string) (*script, error) {
	s := &script{}
	l := lexer{text: text, line: 1}
	var words []word
	var blocks []*block
	skipKeywords := func() {
		for len(words) > 0 && slices.Contains(keywords, words[0].plain()) {
			words = words[1:]
		}
	}
	end := func() {
		skipKeywords()
		if len(words) > 0 {
			s.commands = append(s.commands, command{words, slices.Clone(blocks)})
		}
		words = nil
	}
	for {
		w, kind, err := l.next()
		if err != nil {
			return nil, err
		}
		switch kind {
		case aWord:
			words = append(words, w)
		case opens:
			b := &block{}
			skipKeywords()
			if len(words) > 0 {
				b.name = words[0].plain()
			}
			if len(words) > 1 {
				b.title = words[1].plain()
			}
			end()
			if blocks = append(blocks, b); len(blocks) > maxDepth {
				return nil, errkind.Errorf(errkind.Invalid, "line %d: more than %d blocks are in each other", l.line, maxDepth)
			}
		case closes:
			end()
			if len(blocks) == 0 {
				return nil, errkind.Errorf(errkind.Invalid, "line %d: } without {", l.line)
			}
			blocks = blocks[:len(blocks)-1]
		case separates:
			end()
		case ends:
			end()
			if len(blocks) > 0 {
				return nil, errkind.Errorf(errkind.Invalid, "a { has no }")
			}
			return s, nil
		}
	}
}

func (s *script) hasBLS() bool {
	return slices.ContainsFunc(s.commands, func(c command) bool { return c.name() == "blscfg" && !c.isIn("function") })
}

var (
	linuxCommands  = []string{"linux", "linuxefi", "linux16"}
	initrdCommands = []string{"initrd", "initrdefi", "initrd16"}
)

// kernel returns the kernel of the one linux command that is not in a submenu and not for
// recovery.
func (s *script) kernel(boot fs.FS, env *environment) (Kernel, error) {
	var found []command
	for _, c := range s.commands {
		if slices.Contains(linuxCommands, c.name()) && !c.isIn("submenu") && !c.isIn("function") && !c.recovers() {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		return Kernel{}, errkind.Errorf(errkind.Invalid, "it has %d menu entries with a kernel, outside of submenus and not for recovery, and must have one", len(found))
	}
	words, err := env.expandAll(found[0].words[1:])
	if err != nil {
		return Kernel{}, err
	}
	if len(words) == 0 {
		return Kernel{}, errkind.Errorf(errkind.Invalid, "its command linux names no kernel")
	}
	var initrds []string
	for _, c := range s.commands {
		if slices.Contains(initrdCommands, c.name()) && slices.Equal(c.menu(), found[0].menu()) {
			more, err := env.expandAll(c.words[1:])
			if err != nil {
				return Kernel{}, err
			}
			initrds = more // the last one has effect
		}
	}
	return newKernel(boot, words[0], initrds, words[1:])
}

// menu returns the menu entries that c is in.
func (c command) menu() []*block {
	return slices.DeleteFunc(slices.Clone(c.blocks), func(b *block) bool { return b.name != "menuentry" })
}

// recovers reports whether a command linux is for recovery.
func (c command) recovers() bool {
	for _, b := range c.blocks {
		if isForRescue(b.title) {
			return true
		}
	}
	return slices.ContainsFunc(c.words, func(w word) bool {
		return slices.Contains([]string{"single", "recovery", "rescue", "systemd.unit=rescue.target"}, w.plain())
	})
}

func isForRescue(title string) bool {
	title = strings.ToLower(title)
	return strings.Contains(title, "recovery") || strings.Contains(title, "rescue")
}
