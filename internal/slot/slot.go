// Package slot names the two slots of a host: slot A and slot B.
//
// A wrong guess of a slot would overwrite the running system. So the zero Slot is neither
// slot: it has no text, and a Pair panics for it.
package slot

import "github.com/trident-project/trident/internal/errkind"

// Slot is A or B. The zero value is neither.
type Slot uint8

// The slots. A clean install goes into A.
const (
	A Slot = 1 + iota
	B
)

const (
	textA = "volume-a"
	textB = "volume-b"
)

// Parse parses "volume-a" or "volume-b", the names in the host status and the API.
func Parse(text string) (Slot, error) {
	switch text {
	case textA:
		return A, nil
	case textB:
		return B, nil
	}
	return 0, errkind.Errorf(errkind.Invalid, "read slot: %q is neither %s nor %s", text, textA, textB)
}

// Valid reports whether s is A or B.
func (s Slot) Valid() bool { return s == A || s == B }

// Other returns the other slot. It panics if s is not valid.
func (s Slot) Other() Slot { return Pair[Slot]{A: B, B: A}.Of(s) }

// String returns "volume-a" or "volume-b".
func (s Slot) String() string {
	switch s {
	case A:
		return textA
	case B:
		return textB
	}
	return "no slot"
}

// MarshalText returns the text of s, as String does. It fails for the zero Slot.
func (s Slot) MarshalText() ([]byte, error) {
	if !s.Valid() {
		return nil, errkind.Errorf(errkind.Internal, "write slot: the slot is neither %s nor %s", textA, textB)
	}
	return []byte(s.String()), nil
}

// UnmarshalText parses text as Parse does.
func (s *Slot) UnmarshalText(text []byte) (err error) {
	*s, err = Parse(string(text))
	return err
}

// Pair has one value for each slot.
type Pair[T any] struct {
	A T `json:"a"`
	B T `json:"b"`
}

// Of returns the value for s. It panics if s is neither A nor B.
func (p Pair[T]) Of(s Slot) T {
	switch s {
	case A:
		return p.A
	case B:
		return p.B
	}
	panic("slot: a Pair has no value for the zero Slot")
}

// Other returns the value for the other slot. It panics if s is neither A nor B.
func (p Pair[T]) Other(s Slot) T { return Pair[T]{A: p.B, B: p.A}.Of(s) }
