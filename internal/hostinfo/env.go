package hostinfo

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/trident-project/trident/internal/errkind"
)

// maxEnv is the largest os-release or extension-release file, in bytes.
const maxEnv = 64 << 10

var envKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ParseEnv reads assignments in the format of os-release(5): KEY=value lines
// with the shell's quotes and backslashes, but without expansion. Comment lines begin
// with # or ;. Like systemd, ParseEnv ignores lines that are not assignments, and the
// last assignment to a key counts. ParseEnv fails for text that is not UTF-8, a NUL, an
// open quote and more than 64 KiB.
func ParseEnv(r io.Reader) (map[string]string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxEnv+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxEnv:
		return nil, errkind.Errorf(errkind.TooLarge, "more than %d bytes", maxEnv)
	case !utf8.Valid(data):
		return nil, errors.New("text is not UTF-8")
	case strings.IndexByte(string(data), 0) >= 0:
		return nil, errors.New("a NUL in the text")
	}
	vars := map[string]string{}
	for s := (envScanner{text: string(data)}); s.pos < len(s.text); {
		key, ok := s.readKey()
		if !ok {
			continue
		}
		line := 1 + strings.Count(s.text[:s.pos], "\n")
		if vars[key], ok = s.readValue(); !ok {
			return nil, fmt.Errorf("line %d: the quote is not closed", line)
		}
	}
	return vars, nil
}

type envScanner struct {
	text string
	pos  int
}

// readKey consumes a line up to and including its "=" and returns the key; it consumes
// a line without an assignment completely and returns false.
func (s *envScanner) readKey() (string, bool) {
	line, _, _ := strings.Cut(s.text[s.pos:], "\n")
	key, _, ok := strings.Cut(line, "=")
	if key = strings.TrimSpace(key); ok && envKey.MatchString(key) {
		s.pos += strings.IndexByte(line, '=') + 1
		return key, true
	}
	s.pos += len(line) + 1
	return "", false
}

// readValue consumes the rest of the line and returns the value without blanks around
// it; false if a quote is open at the end of the text.
func (s *envScanner) readValue() (string, bool) {
	var (
		value strings.Builder
		solid int  // the length of the value without trailing blanks
		quote byte // the open quote, or 0
	)
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		s.pos++
		switch {
		case c == '\n' && quote == 0:
			return value.String()[:solid], true
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == '\\' && quote != '\'':
			s.writeEscaped(&value, quote)
		case quote == 0 && strings.IndexByte(" \t\r", c) >= 0:
			if value.Len() > 0 {
				value.WriteByte(c)
			}
			continue
		default:
			value.WriteByte(c)
		}
		solid = value.Len()
	}
	return value.String()[:solid], quote == 0
}

// writeEscaped writes the meaning of a backslash, which was just read, and the next
// character. In double quotes the backslash stays unless the character needs one. A
// backslash before the end of a line joins two lines.
func (s *envScanner) writeEscaped(value *strings.Builder, quote byte) {
	if s.pos == len(s.text) {
		return
	}
	c := s.text[s.pos]
	s.pos++
	if c == '\n' {
		return
	}
	if quote == '"' && strings.IndexByte("\"\\`$", c) < 0 {
		value.WriteByte('\\')
	}
	value.WriteByte(c)
}
