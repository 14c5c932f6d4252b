package fetch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
)

const (
	maxPartLine  = 1 << 10 // bytes
	maxPartLines = 32      // of the header of a part
)

// parts reads a message of the type multipart/byteranges (RFC 9110, 14.6). Each part says with
// its Content-Range how many bytes it has, so parts never looks for a boundary in the bytes of
// the content.
type parts struct {
	r        *bufio.Reader
	boundary string
}

func newParts(r io.Reader, boundary string) *parts {
	return &parts{bufio.NewReaderSize(r, 4<<10), "--" + boundary}
}

// boundaryOf returns the boundary of a message of several ranges; false for another message.
func boundaryOf(contentType string) (string, bool) {
	if len(contentType) > maxPartLine {
		return "", false
	}
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/byteranges" {
		return "", false
	}
	b := params["boundary"]
	return b, b != "" && len(b) <= 200
}

// next reads the header of the next part and returns its Content-Range. The caller then reads
// exactly the bytes of that range from m.r. It returns io.EOF after the last part.
func (m *parts) next() (contentRange string, err error) {
	for blank := 0; ; blank++ { // a line break ends the bytes of the part before
		line, err := m.line()
		if err != nil {
			return "", err
		}
		if line == "" && blank < 4 {
			continue
		}
		switch {
		case line == m.boundary+"--":
			return "", io.EOF
		case line == m.boundary:
			return m.header()
		}
		return "", fmt.Errorf("there is no boundary between two ranges: %w", errSeveral)
	}
}

func (m *parts) header() (contentRange string, err error) {
	for range maxPartLines {
		line, err := m.line()
		if err != nil {
			return "", err
		}
		if line == "" {
			return contentRange, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(name, "Content-Range") {
			if contentRange != "" {
				return "", fmt.Errorf("a range has two headers Content-Range: %w", errSeveral)
			}
			contentRange = strings.TrimSpace(value)
		}
	}
	return "", fmt.Errorf("a range has more than %d lines of header: %w", maxPartLines, errSeveral)
}

// line reads a line, and returns it without its end.
func (m *parts) line() (string, error) {
	var out []byte
	for {
		piece, err := m.r.ReadSlice('\n')
		out = append(out, piece...)
		switch {
		case len(out) > maxPartLine:
			return "", fmt.Errorf("a line between two ranges has more than %d bytes: %w", maxPartLine, errSeveral)
		case err == nil:
			return strings.TrimRight(string(out), "\r\n"), nil
		case err == io.EOF && len(out) > 0 && strings.TrimRight(string(out), "\r\n ") == m.boundary+"--":
			return m.boundary + "--", nil // the end without a line break
		case err == io.EOF:
			return "", io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}
