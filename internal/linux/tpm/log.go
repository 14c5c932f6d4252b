package tpm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	// maxLog is how many bytes of a log are read. Firmware reserves 64 KiB in most machines.
	maxLog   = 4 << 20
	maxBanks = 16

	sha256Alg = 0x000b // TCG Algorithm Registry, 6.3
)

// Types of events (TCG PC Client Platform Firmware Profile, 10.4.1).
const (
	noAction        = 0x00000003
	separator       = 0x00000004
	bootServicesApp = 0x80000003
	driverConfig    = 0x80000001
	efiAction       = 0x80000007
	authority       = 0x800000e0
)

// Log is a parsed event log: the events of the firmware and of the boot loader (TCG PC Client
// Platform Firmware Profile, section 10), then those of systemd (its TPM2 measurement log).
type Log struct {
	Events []Event
}

// Event is one extension of a register.
type Event struct {
	Register int
	Type     uint32 // 0 for an event of systemd
	Digest   Digest
	Data     []byte
	// Phase is the text that systemd measured, as "enter-initrd"; "" for the firmware.
	Phase string
}

// String names the event for people.
func (e Event) String() string {
	if e.Phase != "" {
		return fmt.Sprintf("%.40q of systemd", e.Phase)
	}
	name := fmt.Sprintf("type 0x%08x", e.Type)
	switch e.Type {
	case separator:
		name = "EV_SEPARATOR"
	case bootServicesApp:
		name = "EV_EFI_BOOT_SERVICES_APPLICATION"
	case efiAction:
		name = "EV_EFI_ACTION"
	case authority:
		name = "EV_EFI_VARIABLE_AUTHORITY"
	}
	return fmt.Sprintf("%s with the digest %s", name, e.Digest)
}

// variable returns the name and the value of the variable of the firmware that the event has
// (UEFI_VARIABLE_DATA), or "" if its data have another form.
func (e Event) variable() (name string, value []byte) {
	in := &reader{rest: e.Data}
	in.bytes(16) // GUID
	characters, high := in.u32(), in.u32()
	size, higher := in.u32(), in.u32()
	if characters > uint32(len(e.Data)) {
		return "", nil
	}
	wide := in.bytes(2 * characters) // UTF-16, little endian
	value = in.bytes(size)
	if in.err != nil || high|higher != 0 {
		return "", nil
	}
	units := make([]uint16, characters)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(wide[2*i:])
	}
	return string(utf16.Decode(units)), value
}

// ParseFirmwareLog reads the log of the firmware in its binary form. A log without SHA-256
// digests is an error of kind Unsupported, and bytes that are not a log are one of kind
// Corrupt.
func ParseFirmwareLog(r io.Reader) (Log, error) {
	all, err := io.ReadAll(io.LimitReader(r, maxLog+1))
	if err != nil {
		return Log{}, fmt.Errorf("read the event log of the firmware: %w", err)
	}
	if len(all) > maxLog {
		return Log{}, errkind.Errorf(errkind.TooLarge, "the event log of the firmware is larger than %d bytes", maxLog)
	}
	in := &reader{rest: all}
	banks, err := in.header()
	if err != nil {
		return Log{}, fmt.Errorf("read the event log of the firmware: %w", err)
	}
	var out Log
	for len(in.rest) > 0 && in.err == nil {
		e := in.event(banks)
		if in.err == nil && e.Type != noAction { // those extend nothing
			out.Events = append(out.Events, e)
		}
	}
	if in.err != nil {
		return Log{}, errkind.Errorf(errkind.Corrupt, "read the event log of the firmware: event %d: %w", len(out.Events), in.err)
	}
	return out, nil
}

// reader reads little-endian numbers. After a failure it returns zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) bytes(n uint32) []byte {
	if r.err != nil || uint64(n) > uint64(len(r.rest)) {
		r.err = errors.Join(r.err, io.ErrUnexpectedEOF)
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// header reads the first event, which has the sizes of the digests by their algorithms
// (10.2.1 and 10.4.5.1). It has the form of a log of a TPM 1.2.
func (r *reader) header() (map[uint16]uint16, error) {
	r.bytes(4 + 4 + 20) // register, type, SHA-1 digest
	spec := &reader{rest: r.bytes(r.u32())}
	if sign := spec.bytes(16); r.err != nil || string(sign) != "Spec ID Event03\x00" {
		return nil, errkind.Errorf(errkind.Unsupported, "it is not a log of a TPM 2.0")
	}
	spec.bytes(8) // class and version
	n := spec.u32()
	if n > maxBanks {
		return nil, errkind.Errorf(errkind.Corrupt, "it has %d algorithms", n)
	}
	banks := map[uint16]uint16{}
	for range n {
		algo := spec.u16()
		banks[algo] = spec.u16()
	}
	if spec.err != nil {
		return nil, errkind.With(errkind.Corrupt, spec.err)
	}
	if banks[sha256Alg] != uint16(len(Digest{})) {
		return nil, errkind.Errorf(errkind.Unsupported, "it has no SHA-256 digests")
	}
	return banks, nil
}

// event reads an event with digests of many algorithms (10.2.2).
func (r *reader) event(banks map[uint16]uint16) Event {
	e := Event{Register: int(r.u32()), Type: r.u32()}
	n, has := r.u32(), false
	if n > maxBanks {
		r.err = fmt.Errorf("it has %d digests", n)
		return e
	}
	for range n {
		algo := r.u16()
		size, known := banks[algo]
		if !known && r.err == nil {
			r.err = fmt.Errorf("its algorithm 0x%04x is not one of the log", algo)
		}
		if digest := r.bytes(uint32(size)); algo == sha256Alg && digest != nil {
			e.Digest, has = Digest(digest), true
		}
	}
	e.Data = r.bytes(r.u32())
	if r.err == nil && (!has || e.Register > 23) {
		r.err = errors.New("it has no SHA-256 digest, or no register of a PC")
	}
	return e
}

// ParseSystemLog reads the log of systemd: JSON texts, each of which follows a record
// separator (RFC 7464). Bytes that are not a log are an error of kind Corrupt.
func ParseSystemLog(r io.Reader) (Log, error) {
	const recordSeparator = '\x1e'
	in := bufio.NewScanner(io.LimitReader(r, maxLog))
	in.Buffer(nil, maxLog)
	in.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, recordSeparator); i >= 0 {
			return i + 1, data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	var out Log
	for in.Scan() {
		if len(bytes.TrimSpace(in.Bytes())) == 0 {
			continue
		}
		e, err := systemEvent(in.Bytes())
		if err != nil {
			return Log{}, errkind.Errorf(errkind.Corrupt, "read the TPM log of systemd: event %d: %w", len(out.Events), err)
		}
		out.Events = append(out.Events, e)
	}
	if err := in.Err(); err != nil {
		return Log{}, fmt.Errorf("read the TPM log of systemd: %w", err)
	}
	return out, nil
}

func systemEvent(text []byte) (Event, error) {
	var doc struct {
		PCR     int `json:"pcr"`
		Digests []struct {
			Algo   string `json:"hashAlg"`
			Digest string `json:"digest"`
		} `json:"digests"`
		Content struct {
			String string `json:"string"`
		} `json:"content"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return Event{}, err
	}
	for _, d := range doc.Digests {
		if !strings.EqualFold(d.Algo, "sha256") {
			continue
		}
		digest, err := hex.DecodeString(d.Digest)
		if err != nil || len(digest) != len(Digest{}) || doc.PCR < 0 || doc.PCR > 23 {
			break
		}
		return Event{Register: doc.PCR, Digest: Digest(digest), Phase: doc.Content.String}, nil
	}
	return Event{}, errors.New("it has no SHA-256 digest, or no register of a PC")
}

// Replay returns the values that the events of the log give to the registers, all of which
// begin with zeros. A register without an event is not in the result.
func (l Log) Replay() map[int]Digest {
	out := map[int]Digest{}
	for _, e := range l.Events {
		out[e.Register] = out[e.Register].Extend(e.Digest)
	}
	return out
}

// Until returns the log up to the first event of systemd with a phase, without this event;
// all of the log if there is none.
func (l Log) Until(phase string) Log {
	for i, e := range l.Events {
		if e.Phase == phase {
			return Log{l.Events[:i]}
		}
	}
	return l
}
