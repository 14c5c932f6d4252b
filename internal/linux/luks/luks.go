// Package luks makes and opens encrypted volumes in the format LUKS2, and reads their
// headers. It reads headers and tokens itself, has cryptsetup(8) make and open volumes,
// and systemd-cryptenroll(1) bind a key to the TPM. Keys go to tools by a pipe or an
// inherited file, never by an argument or a file on disk.
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
	// not an error.
	Open(ctx context.Context, v Volume, key Key) error
	// Close closes the volume named v.Name. A closed volume is not an error.
	Close(ctx context.Context, v Volume) error
	// Header reads the header of a device. The error is of kind NotFound if it has none, and
	// Corrupt if no copy of it is whole.
	Header(ctx context.Context, device string) (Header, error)
	// Enroll adds a key slot that the TPM opens while its registers have the given values,
	// and returns the number of its token. key opens the volume now.
	Enroll(ctx context.Context, v Volume, key Key, to Binding) (token int, err error)
	// Wipe removes a token with its key slot. A token that does not exist is not an error.
	Wipe(ctx context.Context, v Volume, token int) error
}

// Header is what a LUKS2 header says.
type Header struct {
	UUID   string
	Epoch  uint64 // its sequence number
	Slots  []int  // numbers of the key slots in use
	Tokens []Token
}

// Token is a token of a header (LUKS2 on-disk format, section 3.3).
type Token struct {
	Number int
	Type   string // systemd-tpm2, systemd-recovery, ...
	Slots  []int
	// Binding of a token of type systemd-tpm2 with literal registers; PCRLock says that
	// its policy is in an NV index instead.
	PCRs    []int
	PCRLock bool
}

// Binding is the state of the TPM in which it opens a key slot: the values of registers of
// the SHA-256 bank, by number. A nil value means the present one.
type Binding struct {
	PCRs map[int][]byte
}
