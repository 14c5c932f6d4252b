// Package slot names the two slots of a host that is updated A/B.
//
// A slot that was never said is the worst thing to guess here: the wrong guess
// writes over the system that runs. So the zero Slot is none, has no text, and
// picks nothing from a Pair.
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

// Parse reads volume-a or volume-b, as the host status and the API have it.
func Parse(text string) (Slot, error) {
	switch text {
	case textA:
		return A, nil
	case textB:
		return B, nil
	}
	return 0, errkind.Errorf(errkind.Invalid, "read %q as a slot: it is neither %s nor %s", text, textA, textB)
}

// Valid reports whether s is A or B.
func (s Slot) Valid() bool { return s == A || s == B }

// Other is the slot that s is not.
func (s Slot) Other() Slot { return Pair[Slot]{A: B, B: A}.Of(s) }

// String is volume-a or volume-b.
func (s Slot) String() string {
	switch s {
	case A:
		return textA
	case B:
		return textB
	}
	return "no slot"
}

// MarshalText is String; the zero Slot has no text.
func (s Slot) MarshalText() ([]byte, error) {
	if !s.Valid() {
		return nil, errkind.Errorf(errkind.Internal, "write a slot: it is neither %s nor %s", textA, textB)
	}
	return []byte(s.String()), nil
}

// UnmarshalText is Parse.
func (s *Slot) UnmarshalText(text []byte) (err error) {
	*s, err = Parse(string(text))
	return err
}

// Pair is something that there is once for each slot.
type Pair[T any] struct {
	A T `json:"a"`
	B T `json:"b"`
}

// Of is the half for s, which must be A or B: it panics otherwise.
func (p Pair[T]) Of(s Slot) T {
	switch s {
	case A:
		return p.A
	case B:
		return p.B
	}
	panic("slot: a half of a pair was asked for without saying which")
}

// Other is the half that is not for s.
func (p Pair[T]) Other(s Slot) T { return Pair[T]{A: p.B, B: p.A}.Of(s) }
