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
	"unicode/utf8"

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
	var known knownFields
	all := map[string]values{}
	target := any(&known)
	if allFields {
		target = &all
	}
	if err := json.Unmarshal(line, target); err != nil {
		return Entry{}, errkind.Errorf(errkind.Corrupt, "parse an entry of the journal: %w", err)
	}
	if allFields {
		known = knownFields{
			all["__CURSOR"], all["__REALTIME_TIMESTAMP"], all["__MONOTONIC_TIMESTAMP"], all["_BOOT_ID"], all["MESSAGE"], all["PRIORITY"],
			all["SYSLOG_IDENTIFIER"], all["_COMM"], all["_PID"], all["SYSLOG_PID"], all["_SYSTEMD_UNIT"], all["UNIT"],
		}
	}
	return known.entry(fieldsOf(all))
}

// knownFields are the fields that an Entry has a place for (systemd.journal-fields(7)).
type knownFields struct {
	Cursor     values `json:"__CURSOR"`
	Realtime   values `json:"__REALTIME_TIMESTAMP"`
	Monotonic  values `json:"__MONOTONIC_TIMESTAMP"`
	BootID     values `json:"_BOOT_ID"`
	Message    values `json:"MESSAGE"`
	Priority   values `json:"PRIORITY"`
	Identifier values `json:"SYSLOG_IDENTIFIER"`
	Command    values `json:"_COMM"`
	PID        values `json:"_PID"`
	SyslogPID  values `json:"SYSLOG_PID"`
	Unit       values `json:"_SYSTEMD_UNIT"`
	About      values `json:"UNIT"`
}

func (k *knownFields) entry(fields []Field) (Entry, error) {
	e := Entry{
		Cursor: text(k.Cursor), BootID: text(k.BootID), Unit: text(k.About, k.Unit),
		Identifier: text(k.Identifier, k.Command), Message: first(k.Message), Fields: fields,
	}
	if e.Cursor == "" {
		return Entry{}, errkind.Errorf(errkind.Corrupt, "parse an entry of the journal: it has no cursor")
	}
	if usec, ok := number(k.Realtime); ok {
		e.Time = time.UnixMicro(usec)
	}
	if usec, ok := number(k.Monotonic); ok && usec >= 0 && usec < 1<<53 {
		e.Monotonic = time.Duration(usec) * time.Microsecond
	}
	e.PID, _ = number(k.PID, k.SyslogPID)
	if p, ok := number(k.Priority); ok && p >= 0 && p <= 7 {
		priority := int32(p)
		e.Priority = &priority
	}
	return e, nil
}

// first returns the first value of the first field that has one.
func first(fields ...values) []byte {
	for _, list := range fields {
		if len(list) > 0 {
			return list[0]
		}
	}
	return nil
}

func text(fields ...values) string { return strings.ToValidUTF8(string(first(fields...)), "?") }

func number(fields ...values) (int64, bool) {
	n, err := strconv.ParseInt(string(first(fields...)), 10, 64)
	return n, err == nil
}

func fieldsOf(all map[string]values) (out []Field) {
	for name, list := range all {
		for _, value := range list {
			out = append(out, Field{strings.ToValidUTF8(name, "?"), value})
		}
	}
	slices.SortStableFunc(out, func(a, b Field) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// values are the values of one field.
type values [][]byte

// UnmarshalJSON implements json.Unmarshaler.
func (v *values) UnmarshalJSON(value []byte) (err error) {
	if len(value) > 0 && value[0] == '"' {
		one, err := unquote(value)
		*v = values{one}
		return err
	}
	*v, err = valuesOf(value)
	return err
}

// unquote returns a copy of the text of a JSON string.
func unquote(value []byte) ([]byte, error) {
	if !bytes.ContainsRune(value, '\\') && utf8.Valid(value) {
		return bytes.Clone(value[1 : len(value)-1]), nil
	}
	var s string
	err := json.Unmarshal(value, &s)
	return []byte(s), err
}

// valuesOf returns the values of a field that is not one text.
func valuesOf(value json.RawMessage) ([][]byte, error) {
	if string(value) == "null" {
		return nil, nil
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
			text, err := unquote(one)
			if err != nil {
				return nil, err
			}
			out = append(out, text)
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
