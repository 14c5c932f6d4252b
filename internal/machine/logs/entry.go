package logs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// An Entry is an entry of the journal.
type Entry struct {
	Cursor     string
	Time       time.Time
	Monotonic  time.Duration // since the boot
	BootID     string
	Unit       string
	Identifier string
	PID        int64  // 0: unknown
	Priority   *int32 // 0 (emergency) to 7 (debug); nil: none
	Message    []byte // need not be UTF-8
	Fields     []Field
	// Omitted is the size in bytes of an entry that is too large, or not in a known form.
	// It has no other field then.
	Omitted int64
}

// A Field is one field of an entry. A field that an entry has several times is there several
// times.
type Field struct {
	Name  string
	Value []byte
}

// parseEntry parses an entry in the JSON form of journalctl: a value is a text, an array of
// numbers if it is not UTF-8, an array of such values if the field is there several times, or
// null if it was left out (journalctl(1), --output=json).
func parseEntry(line []byte, allFields bool) (Entry, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(line, &raw); err != nil {
		return Entry{}, errkind.Errorf(errkind.Corrupt, "parse an entry of the journal: %w", err)
	}
	values := map[string][][]byte{}
	for name, value := range raw {
		list, err := valuesOf(value)
		if err != nil {
			return Entry{}, errkind.Errorf(errkind.Corrupt, "parse the field %.64q of an entry of the journal: %w", name, err)
		}
		values[name] = list
	}
	first := func(names ...string) []byte {
		for _, name := range names {
			if list := values[name]; len(list) > 0 {
				return list[0]
			}
		}
		return nil
	}
	text := func(names ...string) string { return strings.ToValidUTF8(string(first(names...)), "?") }
	number := func(names ...string) (int64, bool) {
		n, err := strconv.ParseInt(string(first(names...)), 10, 64)
		return n, err == nil
	}
	e := Entry{
		Cursor: text("__CURSOR"), BootID: text("_BOOT_ID"), Unit: text("UNIT", "_SYSTEMD_UNIT"),
		Identifier: text("SYSLOG_IDENTIFIER", "_COMM"), Message: first("MESSAGE"),
	}
	if e.Cursor == "" {
		return Entry{}, errkind.Errorf(errkind.Corrupt, "parse an entry of the journal: it has no cursor")
	}
	if usec, ok := number("__REALTIME_TIMESTAMP"); ok {
		e.Time = time.UnixMicro(usec)
	}
	if usec, ok := number("__MONOTONIC_TIMESTAMP"); ok && usec >= 0 && usec < 1<<53 {
		e.Monotonic = time.Duration(usec) * time.Microsecond
	}
	e.PID, _ = number("_PID", "SYSLOG_PID")
	if p, ok := number("PRIORITY"); ok && p >= 0 && p <= 7 {
		priority := int32(p)
		e.Priority = &priority
	}
	if allFields {
		e.Fields = fieldsOf(values)
	}
	return e, nil
}

func fieldsOf(values map[string][][]byte) (out []Field) {
	for name, list := range values {
		for _, value := range list {
			out = append(out, Field{strings.ToValidUTF8(name, "?"), value})
		}
	}
	slices.SortStableFunc(out, func(a, b Field) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// valuesOf returns the values of a field.
func valuesOf(value json.RawMessage) ([][]byte, error) {
	if string(value) == "null" {
		return nil, nil
	}
	if len(value) > 0 && value[0] == '"' {
		var s string
		err := json.Unmarshal(value, &s)
		return [][]byte{[]byte(s)}, err
	}
	if binary, err := bytesOf(value); err == nil {
		return [][]byte{binary}, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(value, &list); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, one := range list {
		if bytes.HasPrefix(one, []byte("[[")) || len(one) == 0 {
			return nil, fmt.Errorf("%.64q is not a value", one)
		}
		if one[0] == '"' {
			var s string
			if err := json.Unmarshal(one, &s); err != nil {
				return nil, err
			}
			out = append(out, []byte(s))
			continue
		}
		binary, err := bytesOf(one)
		if err != nil {
			return nil, err
		}
		out = append(out, binary)
	}
	return out, nil
}

// bytesOf returns the bytes of an array of numbers.
func bytesOf(value json.RawMessage) ([]byte, error) {
	// Not []byte: encoding/json reads that from a base64 text.
	var numbers []uint8Number
	if err := json.Unmarshal(value, &numbers); err != nil {
		return nil, err
	}
	out := make([]byte, len(numbers))
	for i, n := range numbers {
		out[i] = byte(n)
	}
	return out, nil
}

type uint8Number uint8
