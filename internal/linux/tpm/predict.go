package tpm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// The registers that Trident can predict (The Linux TPM PCR Registry of the UAPI group).
const (
	LoaderRegister = 4  // programs that the firmware starts
	PolicyRegister = 7  // Secure Boot: its keys, and which of them the programs were signed by
	UKIRegister    = 11 // the sections of the UKI, and the phases of the boot
)

// Phases are what systemd measures into UKIRegister until a point of the boot
// (systemd-pcrphase.service(8)).
type Phases []string

// UntilUnlock returns the phases of a boot until the system opens encrypted volumes, with an
// initrd that runs systemd; UntilReady returns those until it is up.
func UntilUnlock() Phases { return Phases{"enter-initrd", "leave-initrd"} }

// UntilReady is described at UntilUnlock.
func UntilReady() Phases { return append(UntilUnlock(), "sysinit", "ready") }

// AfterUnlock is the first phase that systemd measures after UntilUnlock.
const AfterUnlock = "sysinit"

// PredictUKI returns the value that UKIRegister has after the phases of a boot with a UKI. The
// error is of kind Unsupported if the value depends on the machine, as with several profiles,
// or if the program is not a UKI.
func PredictUKI(uki *Program, phases Phases) (Digest, error) {
	if _, ok, _ := uki.content(".linux"); !ok {
		return Digest{}, errkind.Errorf(errkind.Unsupported, "predict register %d: the program has no section .linux, so it is not a UKI", UKIRegister)
	}
	for _, name := range []string{".profile", ".dtbauto", ".hwids", ".efifw"} {
		if _, ok, _ := uki.content(name); ok {
			return Digest{}, errkind.Errorf(errkind.Unsupported, "predict register %d: the UKI has a section %s, and which of its sections are measured depends on the choice at boot", UKIRegister, name)
		}
	}
	events, err := UKIEvents(uki)
	if err != nil {
		return Digest{}, fmt.Errorf("predict register %d: %w", UKIRegister, err)
	}
	value := Log{events}.Replay()[UKIRegister]
	for _, p := range phases {
		value = After(value, p)
	}
	return value, nil
}

// After returns the value of UKIRegister after one more phase.
func After(value Digest, phase string) Digest { return value.Extend(sha256.Sum256([]byte(phase))) }

// UKIEvents returns what systemd-stub(7) measures into UKIRegister: the names and the contents
// of sections, in an order of its own. It does not measure .pcrsig.
func UKIEvents(uki *Program) ([]Event, error) {
	const loaderEvent = 0x0000000d // EV_IPL
	var out []Event
	for _, name := range []string{".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"} {
		content, ok, err := uki.content(name)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, content); err != nil {
			return nil, fmt.Errorf("read section %s: %w", name, err)
		}
		out = append(out, Event{Register: UKIRegister, Type: loaderEvent, Digest: sha256.Sum256([]byte(name + "\x00")), Data: []byte(name)},
			Event{Register: UKIRegister, Type: loaderEvent, Digest: Digest(sum.Sum(nil)), Data: []byte(name)})
	}
	return out, nil
}

// Boot has the programs of one boot.
type Boot struct {
	Loader, UKI *Program
}

// programs returns the programs that the firmware starts and measures, in their order. The
// last is the kernel in the UKI, which it measures only without Secure Boot.
func (b Boot) programs() ([]*Program, error) {
	out := []*Program{b.Loader, b.UKI}
	inner, ok, err := b.UKI.Section(".linux")
	if err != nil {
		return nil, fmt.Errorf("the kernel in the UKI: %w", err)
	}
	if ok {
		out = append(out, inner)
	}
	return out, nil
}

// PredictLoader returns the value that LoaderRegister has after a boot with the programs of
// next, on the machine whose log of a boot with the programs of old is given. It replays the
// log with other digests. The error is of kind Unsupported, and names the event, if the log
// has a program that is not one of old.
func (l Log) PredictLoader(old, next Boot) (Digest, error) {
	from, err := old.programs()
	if err != nil {
		return Digest{}, err
	}
	to, err := next.programs()
	if err != nil {
		return Digest{}, err
	}
	swap := map[Digest]Digest{}
	for i := range min(len(from), len(to)) {
		a, err := from[i].Measured()
		if err != nil {
			return Digest{}, err
		}
		if swap[a], err = to[i].Measured(); err != nil {
			return Digest{}, err
		}
	}
	value, programs := Digest{}, 0
	for i, e := range l.Events {
		if e.Register != LoaderRegister {
			continue
		}
		by := e.Digest
		if e.Type == bootServicesApp {
			known := false
			if by, known = swap[e.Digest]; !known {
				return Digest{}, unpredictable(LoaderRegister, i, e, "measures a program that belongs neither to the boot loader nor to the kernel of the running system")
			}
			programs++
		}
		value = value.Extend(by)
	}
	if programs < 2 {
		return Digest{}, errkind.Errorf(errkind.Unsupported, "predict register %d: the event log of this boot does not have the boot loader and the kernel of the running system", LoaderRegister)
	}
	return value, nil
}

func unpredictable(register, at int, e Event, why string) error {
	err := errkind.Errorf(errkind.Unsupported, "predict register %d: event %d of the log, %s, %s", register, at, e, why)
	return errkind.WithHint(err, "Leave register %d out of storage.encryption.pcrs.", register)
}

// CheckPolicy returns nil if PolicyRegister keeps its value in a boot with the programs of next,
// after the boot with those of old that the log has: if the firmware checks no signatures, or if
// the programs are signed with the same certificates. Otherwise the error is of kind
// Unsupported.
func (l Log) CheckPolicy(old, next Boot) error {
	checked := -1
	for i, e := range l.Events {
		if e.Register == PolicyRegister && e.Type == authority {
			checked = i
		}
	}
	if checked < 0 {
		return nil
	}
	for _, p := range []struct {
		what string
		a, b *Program
	}{{"boot loader", old.Loader, next.Loader}, {"UKI", old.UKI, next.UKI}} {
		a, err := p.a.signers()
		if err != nil {
			return err
		}
		b, err := p.b.signers()
		if err != nil {
			return err
		}
		if !slices.Equal(a, b) {
			return unpredictable(PolicyRegister, checked, l.Events[checked], "would be another one, because the new "+p.what+" is signed with other certificates")
		}
	}
	return nil
}

// KeepsPolicy reports whether PolicyRegister keeps its value in a boot with the programs of
// next, after the boot of another system that the log has: if the firmware checks no
// signatures, or if the certificates that have verified the programs of that system are those
// that verify the programs of next. It returns false if the log does not say so, as after a boot
// by shim, which has certificates of its own.
func (l Log) KeepsPolicy(next Boot) (bool, error) {
	enforced := false
	var entries []Event // certificates that have verified a program
	for _, e := range l.Events {
		if e.Register != PolicyRegister {
			continue
		}
		switch e.Type {
		case driverConfig:
			name, value := e.variable()
			enforced = enforced || name == "SecureBoot" && bytes.Equal(value, []byte{1})
		case authority:
			entries = append(entries, e)
		}
	}
	if !enforced && len(entries) == 0 {
		return true, nil
	}
	verifies := make([]bool, len(entries))
	for _, p := range []*Program{next.Loader, next.UKI} {
		signatures, err := p.signatures()
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(entries, func(e Event) bool { return e.hasVerified(signatures) })
		if i < 0 {
			return false, nil
		}
		verifies[i] = true
	}
	return !slices.Contains(verifies, false), nil
}

// hasVerified reports whether e has one of the certificates in signatures.
func (e Event) hasVerified(signatures [][]byte) bool {
	const owner = 16 // bytes of a GUID, before the certificate (UEFI, EFI_SIGNATURE_DATA)
	name, value := e.variable()
	if name != "db" || len(value) <= owner {
		return false
	}
	return slices.ContainsFunc(signatures, func(certificates []byte) bool { return bytes.Contains(certificates, value[owner:]) })
}
