package hostconfig

import "sync"

// Recorded is a Host Configuration as a field of an on-disk record. It holds the text of
// the document and, from the first call of Config on, what that text means. In JSON and
// YAML it is a string, as a field of type string is: releases that have a string there
// read what a Recorded writes, and a Recorded reads what they wrote. The text is never
// rewritten, so a document that cannot be read passes through a record unchanged.
//
// Copies of a Recorded share the Config. The zero value is the empty text. Compare two
// with Equal. All methods may be called by several goroutines.
type Recorded struct {
	text string
	// config parses text once. It is nil in the zero value only.
	config func() (*Config, error)
}

// NewRecorded returns the text of a record as a Recorded. It does not parse it.
func NewRecorded(text string) Recorded {
	return Recorded{text, sync.OnceValues(func() (*Config, error) { return ParseRecorded([]byte(text)) })}
}

// Recorded returns c for a record, as its canonical document.
func (c *Config) Recorded() Recorded {
	return Recorded{string(c.YAML()), func() (*Config, error) { return c, nil }}
}

// Config returns what the text means. The first call parses the text as ParseRecorded
// does; all later calls return the same Config or error. The empty text is an empty
// document; a caller for whom it means something else asks IsZero before.
func (r Recorded) Config() (*Config, error) {
	if r.config == nil {
		return ParseRecorded(nil)
	}
	return r.config()
}

// String returns the document, byte by byte as it was recorded.
func (r Recorded) String() string { return r.text }

// IsZero reports whether the text is empty. The option omitzero of encoding/json uses it.
func (r Recorded) IsZero() bool { return r.text == "" }

// Equal reports whether r and o have the same text.
func (r Recorded) Equal(o Recorded) bool { return r.text == o.text }

// MarshalText returns the text. It never fails.
func (r Recorded) MarshalText() ([]byte, error) { return []byte(r.text), nil }

// UnmarshalText makes r the Recorded of text. It never fails: only Config parses.
func (r *Recorded) UnmarshalText(text []byte) error {
	*r = NewRecorded(string(text))
	return nil
}
