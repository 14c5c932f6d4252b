// Package tpmtest has a TPM in memory, and makes event logs in the formats of firmware and
// systemd.
package tpmtest

import (
	"context"
	"crypto/sha256"
	"maps"
	"sync"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/tpm"
)

// Chip is a [tpm.Chip] in memory. The zero value is a TPM after a reset, with an empty log.
// Methods may be called from many goroutines.
type Chip struct {
	// Fault, if set before the first call, is the error of Check, Registers, and Clear.
	Fault error
	// PlainInitrd is set for boots with an initrd that does not run systemd, and measures nothing.
	PlainInitrd bool
	// Touch, if set before the first call, makes Clear. For power cuts.
	Touch func(name string, change func() error) error

	mu        sync.Mutex
	registers map[int]tpm.Digest
	log       tpm.Log
	clears    int
}

var _ tpm.Chip = (*Chip)(nil)

// Check implements [tpm.Chip].
func (c *Chip) Check(context.Context) error { return c.Fault }

// Registers implements [tpm.Chip].
func (c *Chip) Registers(_ context.Context, numbers ...int) (map[int]tpm.Digest, error) {
	if c.Fault != nil {
		return nil, c.Fault
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[int]tpm.Digest{}
	for _, n := range numbers {
		out[n] = c.registers[n]
	}
	return out, nil
}

// All returns all registers, as package luks has them.
func (c *Chip) All() map[int][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[int][]byte{}
	for n := range 24 {
		d := c.registers[n]
		out[n] = d[:]
	}
	return out
}

// Log implements [tpm.Chip].
func (c *Chip) Log(context.Context) (tpm.Log, error) {
	if c.Fault != nil {
		return tpm.Log{}, c.Fault
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return tpm.Log{Events: append([]tpm.Event(nil), c.log.Events...)}, nil
}

// Clear implements [tpm.Chip]. Clears counts its successes.
func (c *Chip) Clear(context.Context) error {
	if c.Fault != nil {
		return c.Fault
	}
	change := func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.clears++
		return nil
	}
	if c.Touch != nil {
		return c.Touch("clear TPM", change)
	}
	return change()
}

// Clears returns how many times the TPM was cleared.
func (c *Chip) Clears() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clears
}

// Reset begins a boot: registers and log are empty.
func (c *Chip) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.registers, c.log = nil, tpm.Log{}
}

// Measure extends registers with events, and adds these to the log.
func (c *Chip) Measure(events ...tpm.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.registers == nil {
		c.registers = map[int]tpm.Digest{}
	}
	for _, e := range events {
		c.registers[e.Register] = c.registers[e.Register].Extend(e.Digest)
		c.log.Events = append(c.log.Events, e)
	}
}

// Boot measures what firmware, boot loader and systemd do for a boot with the programs of b
// until the phase "ready": with the events of a UEFI firmware without Secure Boot.
func (c *Chip) Boot(b tpm.Boot) error {
	c.Reset()
	const (
		action, app, variable = 0x80000007, 0x80000003, 0x80000001
		separator             = 4
	)
	text := func(register int, kind uint32, text string) tpm.Event {
		return tpm.Event{Register: register, Type: kind, Digest: sha256.Sum256([]byte(text)), Data: []byte(text)}
	}
	c.Measure(text(7, variable, "SecureBoot"), text(7, separator, "\x00"), text(4, action, "Calling EFI Application from Boot Option"), text(4, separator, "\x00"))
	programs := []*tpm.Program{b.Loader, b.UKI}
	if inner, ok, err := b.UKI.Section(".linux"); err != nil {
		return err
	} else if ok {
		programs = append(programs, inner)
	}
	for _, p := range programs {
		d, err := p.Measured()
		if err != nil {
			return err
		}
		c.Measure(tpm.Event{Register: tpm.LoaderRegister, Type: app, Digest: d})
	}
	sections, err := tpm.UKIEvents(b.UKI)
	if err != nil {
		return err
	}
	c.Measure(sections...)
	phases := tpm.UntilReady()
	if c.PlainInitrd {
		phases = phases[len(tpm.UntilUnlock()):]
	}
	for _, p := range phases {
		c.Measure(tpm.Event{Register: tpm.UKIRegister, Digest: sha256.Sum256([]byte(p)), Phase: p})
	}
	return nil
}

// With returns a copy of the registers with other values for some of them.
func With(registers map[int][]byte, other map[int]tpm.Digest) map[int][]byte {
	out := maps.Clone(registers)
	for n, d := range other {
		out[n] = d[:]
	}
	return out
}

// NoTPM is the error of a host without a TPM.
func NoTPM() error { return errkind.Errorf(errkind.Unsupported, "this host has no TPM") }
