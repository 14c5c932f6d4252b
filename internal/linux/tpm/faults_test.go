package tpm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/linux/tpm/tpmtest"
)

var errRead = errors.New("input/output error")

func TestRegistersAndLogsThatCannotBeReadAreErrors(t *testing.T) {
	t.Parallel()
	const pcr7, firmware, system = "sys/class/tpm/tpm0/pcr-sha256/7", "sys/kernel/security/tpm0/binary_bios_measurements", "run/log/systemd/tpm2-measure.log"
	changed := func(name, text string) fstest.MapFS {
		m := machine(t)
		m[name] = &fstest.MapFile{Data: []byte(text)}
		return m
	}
	without := func(name string) fstest.MapFS {
		m := machine(t)
		delete(m, name)
		return m
	}
	registers := func(m fstest.MapFS) error {
		_, err := tpm.Host{Root: m}.Registers(t.Context(), 7)
		return err
	}
	log := func(m fstest.MapFS) error {
		_, err := tpm.Host{Root: m}.Log(t.Context())
		return err
	}
	for says, c := range map[string]struct {
		err  error
		kind errkind.Kind
	}{
		"this host has no TPM":                {registers(fstest.MapFS{}), errkind.Unsupported},
		"read register 7 of the TPM: ":        {registers(without(pcr7)), errkind.Internal},
		`the kernel returns "abcd"`:           {registers(changed(pcr7, "abcd")), errkind.Corrupt},
		`the kernel returns "no number"`:      {registers(changed(pcr7, "no number")), errkind.Corrupt},
		"has left no event log":               {log(without(firmware)), errkind.Unsupported},
		"it is not a log of a TPM 2.0":        {log(changed(firmware, "x")), errkind.Unsupported},
		"read the TPM log of systemd: event ": {log(changed(system, "\x1e{")), errkind.Corrupt},
	} {
		if c.err == nil || errkind.Of(c.err) != c.kind && c.kind != errkind.Internal || !strings.Contains(c.err.Error(), says) {
			t.Errorf("%v (%s), want %q", c.err, errkind.Of(c.err), says)
		}
	}
	if out, err := (tpm.Host{Root: without(system)}).Log(t.Context()); err != nil || len(out.Events) == 0 {
		t.Errorf("a system that measures nothing: %+v, %v", out, err)
	}
}

func TestATPMThatRefusesIsNotCleared(t *testing.T) {
	t.Parallel()
	for says, c := range map[string]struct {
		answer []byte
		err    error
	}{
		"is locked out":               {answer: []byte{6: 0, 7: 0, 8: 0x09, 9: 0x21}},
		"refuses with code 0x101":     {answer: []byte{8: 1, 9: 1}},
		"has 2 bytes":                 {answer: make([]byte, 2)},
		"clear the TPM: input/output": {err: errRead},
	} {
		var sent []byte
		h := tpm.Host{Exchange: func(command []byte) ([]byte, error) {
			sent = command
			return c.answer, c.err
		}}
		err := h.Clear(t.Context())
		if err == nil || !strings.Contains(err.Error(), says) || errkind.Hint(err) == "" {
			t.Errorf("%v, want %q", err, says)
		}
		if len(sent) != 27 || binary.BigEndian.Uint32(sent[6:]) != 0x126 || binary.BigEndian.Uint32(sent[2:]) != 27 {
			t.Errorf("the command is %x", sent)
		}
	}
	h := tpm.Host{Root: machine(t), Exchange: func([]byte) ([]byte, error) { return nil, errRead }}
	if err := h.Check(t.Context()); !errors.Is(err, errRead) {
		t.Errorf("check: %v", err)
	}
}

// The log of the firmware comes from memory that anybody in the boot may have written.
func TestADamagedFirmwareLogIsRefused(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	// spec has the header of a log with the algorithms, and event one event with digests.
	spec := func(banks ...uint16) []byte {
		body := append([]byte("Spec ID Event03\x00"), make([]byte, 8)...)
		body = le.AppendUint32(body, uint32(len(banks)/2))
		for _, b := range banks {
			body = le.AppendUint16(body, b)
		}
		out := make([]byte, 28)
		return append(le.AppendUint32(out, uint32(len(body))), body...)
	}
	event := func(register, digests uint32, algo uint16) []byte {
		out := le.AppendUint32(le.AppendUint32(nil, register), 4)
		out = le.AppendUint16(le.AppendUint32(out, digests), algo)
		out = append(out, make([]byte, 32)...)
		return le.AppendUint32(out, 0)
	}
	whole := spec(11, 32)
	many := bytes.Clone(whole)
	many[28+4+24] = 17
	short := bytes.Clone(whole)
	short[28+4+24] = 2
	for name, c := range map[string]struct {
		log  io.Reader
		kind errkind.Kind
		says string
	}{
		"whole":                {bytes.NewReader(append(whole, event(7, 1, 11)...)), "", ""},
		"too many algorithms":  {bytes.NewReader(many), errkind.Corrupt, "it has 17 algorithms"},
		"a short header":       {bytes.NewReader(short), errkind.Corrupt, "unexpected EOF"},
		"SHA-1 alone":          {bytes.NewReader(spec(4, 20)), errkind.Unsupported, "it has no SHA-256 digests"},
		"too many digests":     {bytes.NewReader(append(spec(11, 32), event(7, 17, 11)...)), errkind.Corrupt, "it has 17 digests"},
		"an unknown algorithm": {bytes.NewReader(append(spec(11, 32), event(7, 1, 12)...)), errkind.Corrupt, "its algorithm 0x000c is not one of the log"},
		"no digest":            {bytes.NewReader(append(spec(11, 32), le.AppendUint32(le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, 7), 4), 0), 0)...)), errkind.Corrupt, "it has no SHA-256 digest"},
		"register 24":          {bytes.NewReader(append(spec(11, 32), event(24, 1, 11)...)), errkind.Corrupt, "no register of a PC"},
		"a cut event":          {bytes.NewReader(append(spec(11, 32), 7, 0)), errkind.Corrupt, "unexpected EOF"},
		"too large":            {io.LimitReader(endless{}, 5<<20), errkind.TooLarge, "is larger than"},
		"not readable":         {broken{}, errkind.Internal, "input/output error"},
	} {
		out, err := tpm.ParseFirmwareLog(c.log)
		if c.kind == "" {
			if err != nil || len(out.Events) != 1 || out.Events[0].Register != 7 {
				t.Errorf("%s: %+v, %v", name, out, err)
			}
			continue
		}
		if errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%s)", name, err, errkind.Of(err))
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type broken struct{}

func (broken) Read([]byte) (int, error)          { return 0, errRead }
func (broken) ReadAt([]byte, int64) (int, error) { return 0, errRead }

func TestADamagedLogOfSystemdIsRefused(t *testing.T) {
	t.Parallel()
	digest := strings.Repeat("ab", 32)
	for text, says := range map[string]string{
		`{"pcr":11,"digests":[{"hashAlg":"sha1","digest":"ab"},{"hashAlg":"SHA256","digest":"` + digest + `"}]}`: "",
		`{"pcr":11,"digests":[{"hashAlg":"sha1","digest":"ab"}]}`:                                                "it has no SHA-256 digest",
		`{"pcr":24,"digests":[{"hashAlg":"sha256","digest":"` + digest + `"}]}`:                                  "no register of a PC",
		`{"pcr":-1,"digests":[{"hashAlg":"sha256","digest":"` + digest + `"}]}`:                                  "no register of a PC",
		`{"pcr":11,"digests":[{"hashAlg":"sha256","digest":"abcd"}]}`:                                            "it has no SHA-256 digest",
		`{"pcr":11,"digests":[{"hashAlg":"sha256","digest":"x"}]}`:                                               "it has no SHA-256 digest",
		`{"pcr":"11"}`: "event 0: json",
	} {
		out, err := tpm.ParseSystemLog(strings.NewReader("\x1e\n\x1e" + text + "\n"))
		if (err == nil) != (says == "") || err == nil && len(out.Events) != 1 || err != nil && (errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %+v, %v, want %q", text, out, err, says)
		}
	}
	if _, err := tpm.ParseSystemLog(broken{}); !errors.Is(err, errRead) {
		t.Errorf("%v", err)
	}
}

func TestEventsAreNamedForPeople(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]tpm.Event{
		`"enter-initrd" of systemd`: {Phase: "enter-initrd"}, "EV_SEPARATOR with": {Type: 4}, "EV_EFI_ACTION with": {Type: 0x80000007},
		"EV_EFI_VARIABLE_AUTHORITY with": {Type: 0x800000e0}, "EV_EFI_BOOT_SERVICES_APPLICATION with": {Type: 0x80000003}, "type 0x00000009 with": {Type: 9},
	} {
		if got := e.String(); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// patched is a program with other bytes at an offset of its PE header.
func patched(at int, b ...byte) []byte {
	out := tpmtest.PE(tpmtest.Section{Name: ".text", Content: []byte("code")})
	copy(out[int(binary.LittleEndian.Uint32(out[60:]))+at:], b)
	return out
}

// A program comes from a partition that anybody may write, and each of its numbers has bounds.
func TestADamagedProgramIsRefused(t *testing.T) {
	t.Parallel()
	optional := 24
	good := patched(0)
	table := optional + int(binary.LittleEndian.Uint16(good[binary.LittleEndian.Uint32(good[60:])+20:]))
	for says, b := range map[string][]byte{
		"it does not begin with MZ":                    []byte("MZ"),
		"it has no PE header":                          patched(0, 'X'),
		"its optional header is of an unknown kind":    patched(optional, 0xff, 0xff),
		"its headers do not fit":                       patched(6, 0xff, 0xff),
		`its section ".text" does not fit`:             patched(table+16, 0xff, 0xff, 0xff, 0x7f),
		"its signatures do not fit":                    patched(optional+112+8*4, 1, 0, 0, 0, 8, 0, 0, 0),
		"read an EFI program: its section \".text\" d": patched(table+8, 0xff, 0xff, 0xff, 0x7f),
	} {
		if _, err := tpm.OpenProgram(bytes.NewReader(b), int64(len(b))); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	if _, err := tpm.OpenProgram(broken{}, 4096); !errors.Is(err, errRead) {
		t.Errorf("a program that cannot be read: %v", err)
	}
}

// What follows the last section is a part of the hash; a section without bytes in the file is
// not. Both are so in the Authenticode specification.
func TestTheHashOfAProgramCoversItsEnd(t *testing.T) {
	t.Parallel()
	b := patched(0)
	hash := func(b []byte) tpm.Digest {
		t.Helper()
		d, err := tpmtest.Open(t, b).Measured()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if hash(b) == hash(append(bytes.Clone(b), 1, 2, 3, 4, 5, 6, 7, 8)) {
		t.Error("bytes after the last section change nothing")
	}
	p := tpmtest.Open(t, b)
	if inner, ok, err := p.Section(".linux"); inner != nil || ok || err != nil {
		t.Errorf("a section that does not exist: %v, %v, %v", inner, ok, err)
	}
	faulty, err := tpm.OpenProgram(tail{bytes.NewReader(b), int64(len(b) - 1)}, int64(len(b)))
	if err == nil {
		_, err = faulty.Measured()
	}
	if !errors.Is(err, errRead) {
		t.Errorf("a section that cannot be read: %v", err)
	}
}

// tail cannot be read from a byte on.
type tail struct {
	io.ReaderAt
	bad int64
}

func (r tail) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > r.bad && at > 0 {
		return 0, errRead
	}
	return r.ReaderAt.ReadAt(p, at)
}

// brokenFS fails to open the files whose names begin with a prefix.
type brokenFS struct {
	fs.FS
	prefix string
}

func (b brokenFS) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, b.prefix) {
		return nil, errRead
	}
	return b.FS.Open(name)
}

// A file that exists and cannot be read is not taken for one that does not exist.
func TestAHostThatCannotBeReadIsNotOneWithoutATPM(t *testing.T) {
	t.Parallel()
	for prefix, read := range map[string]func(tpm.Host) error{
		"sys/class/tpm/tpm0/tpm_version_major": func(h tpm.Host) error { _, err := h.Registers(t.Context(), 7); return err },
		"sys/class/tpm/tpm0/pcr-sha256/":       func(h tpm.Host) error { _, err := h.Registers(t.Context(), 7); return err },
		"sys/class/tpm/tpm0/tpm_version":       func(h tpm.Host) error { return h.Check(t.Context()) },
		"sys/kernel/security":                  func(h tpm.Host) error { _, err := h.Log(t.Context()); return err },
		"run/log/systemd":                      func(h tpm.Host) error { _, err := h.Log(t.Context()); return err },
	} {
		if err := read(tpm.Host{Root: brokenFS{machine(t), prefix}}); !errors.Is(err, errRead) {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}
