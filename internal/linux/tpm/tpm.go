// Package tpm reads the registers (PCRs) of a TPM 2.0 and the event log of the firmware,
// and predicts the registers of a boot that has not happened yet.
package tpm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
)

// Digest is a value of a register, or what extends one, in the SHA-256 bank.
type Digest [32]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Extend returns the value of a register d after an extension by by.
func (d Digest) Extend(by Digest) Digest {
	return sha256.Sum256(append(d[:], by[:]...))
}

// A Chip is the TPM of a host. Host is the real one; package tpmtest has one in memory.
type Chip interface {
	// Check returns an error of kind Unsupported if the host has no TPM 2.0, or one without
	// the SHA-256 bank, and one of kind Precondition if the TPM is locked out.
	Check(ctx context.Context) error
	// Registers returns the present values. Its errors are those of Check.
	Registers(ctx context.Context, numbers ...int) (map[int]Digest, error)
	// Log returns the event log of this boot, the firmware's and systemd's.
	Log(ctx context.Context) (Log, error)
	// Clear erases the owner hierarchy, so all keys that the TPM holds are lost, and ends a
	// lockout. The error is of kind Precondition if the TPM does not permit it.
	Clear(ctx context.Context) error
}
