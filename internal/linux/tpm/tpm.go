// Package tpm reads the registers (PCRs) of a TPM 2.0 and the event log of the firmware,
// and predicts the registers of a boot that has not happened yet.
package tpm

import "context"

// Digest is a value of a register, or what extends one, in the SHA-256 bank.
type Digest [32]byte

// A Chip is the TPM of a host. Host is the real one; package tpmtest has one in memory and
// the suite for both.
type Chip interface {
	// Registers returns the present values. The error is of kind Unsupported if the host has
	// no TPM, or one without the SHA-256 bank.
	Registers(ctx context.Context, numbers ...int) (map[int]Digest, error)
	// Log returns the event log of this boot, firmware's and systemd's.
	Log(ctx context.Context) (Log, error)
	// Clear erases the owner hierarchy, so all keys that the TPM holds are lost.
	Clear(ctx context.Context) error
}

// Log is a parsed event log (TCG PC Client Platform Firmware Profile, section 10).
type Log struct {
	Events []Event
}

// Event is one extension of a register.
type Event struct {
	Register int
	Type     uint32
	Digest   Digest
	Data     []byte
}
