package tpm

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	sysfs       = "sys/class/tpm/tpm0"
	firmwareLog = "sys/kernel/security/tpm0/binary_bios_measurements"
	systemLog   = "run/log/systemd/tpm2-measure.log"
	device      = "dev/tpmrm0"
)

// Host is the Chip of this host.
type Host struct {
	// Root has dev, run and sys. Nil means the root folder.
	Root fs.FS
	// Exchange sends a command to the TPM and returns the response. Nil uses the device of
	// the kernel below the root folder.
	Exchange func(command []byte) ([]byte, error)
}

var _ Chip = Host{}

func (h Host) root() fs.FS {
	if h.Root == nil {
		return os.DirFS("/")
	}
	return h.Root
}

func (h Host) exchange(command []byte) (response []byte, err error) {
	if h.Exchange != nil {
		return h.Exchange(command)
	}
	f, err := openDevice("/" + device)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Write(command); err != nil {
		return nil, err
	}
	const maxResponse = 4096 // of any command (TPM 2.0 Library, MAX_RESPONSE_SIZE)
	response = make([]byte, maxResponse)
	n, err := f.Read(response)
	return response[:n], err
}

// openDevice opens a device whose reads wait for the response. os.OpenFile would set O_NONBLOCK,
// because the device can be polled: the kernel then runs the command in the background, and a
// read before its end returns no bytes.
func openDevice(name string) (*os.File, error) {
	for {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// The constants of the commands (TPM 2.0 Library, Part 2).
const (
	noSessions, sessions = 0x8001, 0x8002
	ccClear, ccGet       = 0x126, 0x17a
	lockoutHandle        = 0x4000000a
	passwordSession      = 0x40000009
	properties           = 6
	permanent            = 0x200 // TPM_PT_PERMANENT
	inLockout            = 1 << 9
	rcLockout            = 0x921
	headerSize           = 10
)

// command runs a command, and returns the parameters of its response.
func (h Host) command(tag uint16, code uint32, body []byte) ([]byte, error) {
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(headerSize+len(body)))
	b = binary.BigEndian.AppendUint32(b, code)
	out, err := h.exchange(append(b, body...))
	if err != nil {
		return nil, err
	}
	if len(out) < headerSize {
		return nil, errkind.Errorf(errkind.Corrupt, "the response of the TPM has %d bytes", len(out))
	}
	switch rc := binary.BigEndian.Uint32(out[6:]); rc {
	case 0:
		return out[headerSize:], nil
	case rcLockout:
		return nil, lockedOut()
	default:
		return nil, errkind.Errorf(errkind.Precondition, "the TPM refuses with code 0x%x", rc)
	}
}

func lockedOut() error {
	err := errkind.Errorf(errkind.Precondition, "the TPM is locked out after too many failed authorizations")
	return errkind.WithHint(err, "Wait until the lockout has ended, or clear the TPM in the setup of the firmware; keys in the TPM are lost then.")
}

// Check implements [Chip].
func (h Host) Check(context.Context) error {
	if err := h.present(); err != nil {
		return err
	}
	var body []byte
	for _, n := range []uint32{properties, permanent, 1} {
		body = binary.BigEndian.AppendUint32(body, n)
	}
	out, err := h.command(noSessions, ccGet, body)
	if err != nil {
		return fmt.Errorf("ask the TPM whether it is locked out: %w", err)
	}
	const at = 1 + 4 + 4 + 4 // more data, capability, count, property
	if len(out) < at+4 || binary.BigEndian.Uint32(out[at-4:]) != permanent {
		return errkind.Errorf(errkind.Corrupt, "ask the TPM whether it is locked out: its answer is not understood")
	}
	if binary.BigEndian.Uint32(out[at:])&inLockout != 0 {
		return lockedOut()
	}
	return nil
}

// present returns an error if the host has no TPM 2.0 with the SHA-256 bank.
func (h Host) present() error {
	major, err := fs.ReadFile(h.root(), path.Join(sysfs, "tpm_version_major"))
	if errors.Is(err, fs.ErrNotExist) {
		return errkind.Errorf(errkind.Unsupported, "this host has no TPM")
	}
	if err != nil {
		return err
	}
	if v := strings.TrimSpace(string(major)); v != "2" {
		return errkind.Errorf(errkind.Unsupported, "the TPM of this host is of version %.8s, and Trident needs version 2", v)
	}
	if _, err := fs.Stat(h.root(), path.Join(sysfs, "pcr-sha256")); err != nil {
		err := errkind.Errorf(errkind.Unsupported, "the TPM of this host has no SHA-256 bank of registers")
		return errkind.WithHint(err, "Enable the SHA-256 bank in the setup of the firmware.")
	}
	return nil
}

// Registers implements [Chip].
func (h Host) Registers(_ context.Context, numbers ...int) (map[int]Digest, error) {
	if err := h.present(); err != nil {
		return nil, err
	}
	out := map[int]Digest{}
	for _, n := range numbers {
		text, err := fs.ReadFile(h.root(), path.Join(sysfs, "pcr-sha256", strconv.Itoa(n)))
		if err != nil {
			return nil, fmt.Errorf("read register %d of the TPM: %w", n, err)
		}
		value, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(value) != len(Digest{}) {
			return nil, errkind.Errorf(errkind.Corrupt, "read register %d of the TPM: the kernel returns %.80q", n, text)
		}
		out[n] = Digest(value)
	}
	return out, nil
}

// Log implements [Chip]. A host whose initrd and system measure nothing has no log of systemd.
func (h Host) Log(context.Context) (Log, error) {
	f, err := h.root().Open(firmwareLog)
	if errors.Is(err, fs.ErrNotExist) {
		return Log{}, errkind.Errorf(errkind.Unsupported, "the firmware of this host has left no event log of the TPM")
	}
	if err != nil {
		return Log{}, err
	}
	defer f.Close()
	out, err := ParseFirmwareLog(f)
	if err != nil {
		return Log{}, err
	}
	s, err := h.root().Open(systemLog)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return Log{}, err
	}
	defer s.Close()
	system, err := ParseSystemLog(s)
	return Log{append(out.Events, system.Events...)}, err
}

// Clear implements [Chip], with TPM2_Clear and the empty authorization of the lockout
// hierarchy, which is what a TPM has that nobody took over.
func (h Host) Clear(context.Context) error {
	body := binary.BigEndian.AppendUint32(nil, lockoutHandle)
	const emptyPassword = 4 + 2 + 1 + 2 // handle, nonce, attributes, password
	body = binary.BigEndian.AppendUint32(body, emptyPassword)
	body = binary.BigEndian.AppendUint32(body, passwordSession)
	body = append(body, make([]byte, emptyPassword-4)...)
	if _, err := h.command(sessions, ccClear, body); err != nil {
		return errkind.WithHint(fmt.Errorf("clear the TPM: %w", err), "Clear the TPM in the setup of the firmware.")
	}
	return nil
}
