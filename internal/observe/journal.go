package observe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// journalSocket is where the journal takes records in its own format
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL).
const journalSocket = "/run/systemd/journal/socket"

// Limits of a record, which together are below the limit of a datagram. The journal itself
// cuts lines after 48 KiB (LineMax= in journald.conf(5)).
const (
	maxMessage     = 48 << 10
	maxField       = 2 << 10
	maxFields      = 32
	journalTimeout = time.Second // the longest wait for a journal that accepts no record
)

// journalHandler writes records to the journal: the message as a line of key=value, and a
// field for each attribute. The attributes operation, request and trace become
// OPERATION_ID, REQUEST_ID and TRACE_ID, any other one TRIDENT_ and its name. If the
// journal's socket refuses a record, the line is written to stderr after its priority
// (sd-daemon(3)).
type journalHandler struct {
	text   slog.Handler // writes into out.line
	out    *journal
	prefix string // the groups, dotted
	fields []field
}

type field struct{ name, value string }

// journal sends records to the journal, one at a time.
type journal struct {
	stderr  io.Writer
	socket  *net.UnixConn // nil if it could not be made
	to      *net.UnixAddr
	version string

	mu   sync.Mutex
	line bytes.Buffer
}

func newJournalHandler(stderr io.Writer, socket string, level slog.Level, version string) *journalHandler {
	j := &journal{stderr: stderr, to: &net.UnixAddr{Name: socket, Net: "unixgram"}, version: version}
	// Not connected, so that it survives a restart of the journal.
	j.socket, _ = net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	return &journalHandler{out: j, text: slog.NewTextHandler(&j.line, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && slices.Contains([]string{slog.TimeKey, slog.LevelKey, "trace", "request"}, a.Key) {
				return slog.Attr{}
			}
			return a
		},
	})}
}

func (h *journalHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.text.Enabled(ctx, l)
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	fields := slices.Clip(h.fields)
	r.Attrs(func(a slog.Attr) bool {
		fields = appendFields(fields, h.prefix, a)
		return true
	})
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.line.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	return h.out.send(priority(r.Level), fields)
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.text, n.fields = h.text.WithAttrs(attrs), slices.Clip(h.fields)
	for _, a := range attrs {
		n.fields = appendFields(n.fields, h.prefix, a)
	}
	return &n
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	n := *h
	n.text = h.text.WithGroup(name)
	if name != "" {
		n.prefix += name + "."
	}
	return &n
}

// appendFields adds an attribute, or those of a group.
func appendFields(fields []field, prefix string, a slog.Attr) []field {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range value.Group() {
			fields = appendFields(fields, prefix, inner)
		}
		return fields
	}
	if a.Key == "" || len(fields) >= maxFields {
		return fields
	}
	return append(fields, field{fieldName(prefix + a.Key), clip(value.String(), maxField)})
}

// fieldName returns the journal's name of an attribute: capitals, digits and underscores,
// 64 at most.
func fieldName(key string) string {
	switch key {
	case "operation":
		return "OPERATION_ID"
	case "request":
		return "REQUEST_ID"
	case "trace":
		return "TRACE_ID"
	}
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' {
			return c - 'a' + 'A'
		}
		if c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, key)
	return "TRIDENT_" + name[:min(len(name), 56)]
}

func clip(s string, limit int) string {
	if len(s) > limit {
		return s[:limit] + " …"
	}
	return s
}

// send writes the record in j.line. The caller holds j.mu.
func (j *journal) send(priority byte, fields []field) error {
	message := strings.TrimSuffix(j.line.String(), "\n")
	if j.socket != nil {
		record := []field{{"MESSAGE", clip(message, maxMessage)}, {"PRIORITY", string(priority)}, {"SYSLOG_IDENTIFIER", "tridentd"}, {"VERSION", j.version}}
		err := j.datagram(append(record, fields...))
		if errors.Is(err, unix.EMSGSIZE) {
			err = j.datagram(record)
		}
		if err == nil {
			return nil
		}
	}
	_, err := io.WriteString(j.stderr, "<"+string(priority)+">"+message+"\n")
	return err
}

// datagram sends fields. A value with a line break follows its length, which has 64 bits,
// the lowest byte first.
func (j *journal) datagram(fields []field) error {
	var out []byte
	for _, f := range fields {
		out = append(out, f.name...)
		if strings.Contains(f.value, "\n") {
			out = append(out, '\n')
			out = binary.LittleEndian.AppendUint64(out, uint64(len(f.value)))
		} else {
			out = append(out, '=')
		}
		out = append(out, f.value...)
		out = append(out, '\n')
	}
	if err := j.socket.SetWriteDeadline(time.Now().Add(journalTimeout)); err != nil {
		return err
	}
	_, err := j.socket.WriteToUnix(out, j.to)
	return err
}

// priority returns the digit of syslog(3) for a level.
func priority(l slog.Level) byte {
	switch {
	case l < slog.LevelInfo:
		return '7'
	case l < slog.LevelWarn:
		return '6'
	case l < slog.LevelError:
		return '4'
	}
	return '3'
}
