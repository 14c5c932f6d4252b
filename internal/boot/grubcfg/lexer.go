package grubcfg

import (
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// token is a kind of a lexer's result.
type token int

const (
	aWord     token = iota
	opens           // {
	closes          // }
	separates       // the end of a command
	ends            // of the text
)

// lexer splits a script into words, as GRUB does (GRUB manual, "Shell-like scripting").
type lexer struct {
	text string
	at   int
	line int
}

const blanks = " \t\r"

func (l *lexer) next() (word, token, error) {
	for l.at < len(l.text) {
		switch c := l.text[l.at]; {
		case strings.IndexByte(blanks, c) >= 0:
			l.at++
		case c == '\\' && l.continues():
		case c == '#':
			if i := strings.IndexByte(l.text[l.at:], '\n'); i >= 0 {
				l.at += i
			} else {
				l.at = len(l.text)
			}
		case c == '\n':
			l.at++
			l.line++
			return nil, separates, nil
		case strings.IndexByte(";&|", c) >= 0:
			l.at++
			return nil, separates, nil
		case (c == '{' || c == '}') && l.isAlone():
			l.at++
			if c == '{' {
				return nil, opens, nil
			}
			return nil, closes, nil
		default:
			w, err := l.word()
			return w, aWord, err
		}
	}
	return nil, ends, nil
}

// continues skips a backslash before the end of a line, and reports whether there is one.
func (l *lexer) continues() bool {
	if !strings.HasPrefix(l.text[l.at:], "\\\n") {
		return false
	}
	l.at += 2
	l.line++
	return true
}

// isAlone reports whether the byte at l.at is a word of its own.
func (l *lexer) isAlone() bool {
	return l.at+1 == len(l.text) || strings.IndexByte(blanks+"\n;", l.text[l.at+1]) >= 0
}

func (l *lexer) word() (w word, err error) {
	text := func(s string, quoted bool) { w = append(w, part{text: s, quoted: quoted}) }
	for l.at < len(l.text) {
		c := l.text[l.at]
		switch {
		case strings.IndexByte(blanks+"\n;&|", c) >= 0:
			return w, nil
		case c == '\\' && l.continues():
		case c == '\\' && l.at+1 < len(l.text):
			text(l.text[l.at+1:l.at+2], true)
			l.at += 2
		case c == '\'':
			i := strings.IndexByte(l.text[l.at+1:], '\'')
			if i < 0 {
				return nil, l.open("'")
			}
			s := l.text[l.at+1 : l.at+1+i]
			text(s, true)
			l.line += strings.Count(s, "\n")
			l.at += i + 2
		case c == '"':
			l.at++
			quoted, err := l.quoted()
			if err != nil {
				return nil, err
			}
			w = append(w, quoted...)
		case c == '$':
			w = append(w, l.variable(false))
		default:
			text(l.text[l.at:l.at+1], false)
			l.at++
		}
	}
	return w, nil
}

// quoted reads to the end of a text in double quotes.
func (l *lexer) quoted() (word, error) {
	w := word{{quoted: true}}
	for l.at < len(l.text) {
		c := l.text[l.at]
		switch {
		case c == '"':
			l.at++
			return w, nil
		case c == '\\' && l.continues():
		case c == '\\' && l.at+1 < len(l.text) && strings.IndexByte(`"$\`, l.text[l.at+1]) >= 0:
			w = append(w, part{text: l.text[l.at+1 : l.at+2], quoted: true})
			l.at += 2
		case c == '$':
			w = append(w, l.variable(true))
		default:
			if c == '\n' {
				l.line++
			}
			w = append(w, part{text: string(c), quoted: true})
			l.at++
		}
	}
	return nil, l.open(`"`)
}

func (l *lexer) open(quote string) error {
	return errkind.Errorf(errkind.Invalid, "line %d: a %s has no end", l.line, quote)
}

// variable reads $NAME or ${NAME}. A $ without a name is text.
func (l *lexer) variable(quoted bool) part {
	rest := l.text[l.at+1:]
	if strings.HasPrefix(rest, "{") {
		if i := strings.IndexByte(rest, '}'); i > 0 && isName(rest[1:i]) {
			l.at += i + 2
			return part{text: rest[1:i], isVar: true, quoted: quoted}
		}
	}
	n := 0
	for n < len(rest) && isName(rest[:n+1]) {
		n++
	}
	if n == 0 {
		l.at++
		return part{text: "$", quoted: quoted}
	}
	l.at += n + 1
	return part{text: rest[:n], isVar: true, quoted: quoted}
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
