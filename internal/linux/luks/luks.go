// Package luks makes and opens encrypted volumes in the format LUKS2, and reads their
// headers. It reads headers and tokens itself, has cryptsetup(8) make and open volumes,
// and systemd-cryptenroll(1) bind a key to the TPM. Keys go to tools by a pipe, never by an
// argument or a file on disk.
package luks

import "context"

// Volume is an encrypted volume.
type Volume struct {
	Device string // the device file that holds the header and the encrypted data
	Name   string // below /dev/mapper, once open
	UUID   string // of the header, as blkid(8) writes it
}

// Mapped returns the path of the open volume.
func (v Volume) Mapped() string { return "/dev/mapper/" + v.Name }

// Key opens a volume. Its bytes are in no log and no error: it prints as "[key]".
type Key []byte

// String implements [fmt.Stringer] without the bytes.
func (Key) String() string { return "[key]" }

// GoString implements [fmt.GoStringer] without the bytes.
func (Key) GoString() string { return "[key]" }

// A Manager changes the encrypted volumes of a host. Host is the real one; package lukstest
// has one in memory, and the suite for both.
type Manager interface {
	// Format writes a new header with one key slot that key opens, slot 0. What the device
	// contains is lost. It may be called again after a failure or a power cut.
	Format(ctx context.Context, v Volume, key Key) error
	// Open makes the volume available at v.Mapped. An open volume with the header of v is
	// not an error. The error is of kind Denied if key opens no key slot.
	Open(ctx context.Context, v Volume, key Key) error
	// Close closes the volume named v.Name. A closed volume is not an error.
	Close(ctx context.Context, v Volume) error
	// Test changes nothing. It fails with kind Denied if key opens no key slot.
	Test(ctx context.Context, v Volume, key Key) error
	// Header reads the header of a device. The error is of kind NotFound if it has none, and
	// Corrupt if no copy of it is whole.
	Header(ctx context.Context, device string) (Header, error)
	// Enroll adds a key slot that the TPM opens while its registers have the values of to,
	// and returns the number of its token, or the number of the token that has this binding
	// already. key opens the volume now; a nil key has the TPM open it in its present state.
	// The error is of kind Denied if the key, or the TPM, does not open it.
	// A power cut may leave a key slot without a token: see KillSlot.
	Enroll(ctx context.Context, v Volume, key Key, to Binding) (token int, err error)
	// Wipe removes a token with its key slots. A token that does not exist is not an error.
	// Wipe may be called again after a power cut.
	Wipe(ctx context.Context, v Volume, token int) error
	// KillSlot removes a key slot. A slot that does not exist is not an error. Neither Wipe
	// nor KillSlot removes the last key slot: they fail with kind Precondition.
	KillSlot(ctx context.Context, v Volume, slot int) error
}

// Header is the content of a LUKS2 header that Trident uses.
type Header struct {
	UUID   string
	Epoch  uint64  // its sequence number
	Slots  []int   // numbers of the key slots in use, sorted
	Tokens []Token // sorted by number, the order in which the system tries them
}

// Token returns the token with the number n.
func (h Header) Token(n int) (t Token, ok bool) {
	for _, t := range h.Tokens {
		if t.Number == n {
			return t, true
		}
	}
	return Token{}, false
}

// Bound returns the number of the token with exactly the binding to.
func (h Header) Bound(to Binding) (token int, ok bool) {
	for _, t := range h.Tokens {
		if t.Is(to) {
			return t.Number, true
		}
	}
	return 0, false
}

// Bare returns the key slots that no token names, such as slot 0 and those of passphrases.
func (h Header) Bare() []int {
	named := map[int]bool{}
	for _, t := range h.Tokens {
		for _, s := range t.Slots {
			named[s] = true
		}
	}
	var out []int
	for _, s := range h.Slots {
		if !named[s] {
			out = append(out, s)
		}
	}
	return out
}
