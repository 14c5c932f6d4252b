package luks_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/run"
)

// script are tools that change a device, and note their commands.
type script struct {
	args []string
	do   func(args string) error // may be nil
}

func (s *script) run(_ context.Context, c run.Command) ([]byte, error) {
	line := c.Path + " " + strings.Join(c.Args, " ")
	s.args = append(s.args, line)
	if s.do == nil {
		return nil, nil
	}
	return nil, s.do(line)
}

// onDevice returns a volume whose header has a text.
func onDevice(t *testing.T, text string) luks.Volume {
	t.Helper()
	v := luks.Volume{Device: filepath.Join(t.TempDir(), "device"), Name: "data", UUID: uuid}
	rewrite(t, v, text)
	return v
}

func rewrite(t *testing.T, v luks.Volume, text string) {
	t.Helper()
	if err := os.WriteFile(v.Device, volume(header(0, 1, text), header(size, 1, text)), 0o600); err != nil {
		t.Fatal(err)
	}
}

var bound = luks.Binding{PCRs: map[int][]byte{11: bytes.Repeat([]byte{2}, 32), 7: bytes.Repeat([]byte{1}, 32), 4: nil}}

// sealed is a header with a passphrase in slot 0, and a token 3 for slots 1 and 2.
func sealed(to luks.Binding) string {
	return `{"keyslots":{"0":{},"1":{},"2":{}},"tokens":{"3":{"type":"systemd-tpm2","keyslots":["1","2"],"tpm2-pcrs":[7,11],"tpm2-pcr-bank":"sha256","tpm2-policy-hash":"` + hex.EncodeToString(to.Policy()) + `"}}}`
}

func TestEnrollReturnsTheNewTokenOrTheOneThatIsThere(t *testing.T) {
	t.Parallel()
	values := luks.Binding{PCRs: map[int][]byte{7: bound.PCRs[7], 11: bound.PCRs[11]}}
	v := onDevice(t, plain)
	s := &script{do: func(line string) error {
		if strings.HasPrefix(line, "systemd-cryptenroll ") {
			rewrite(t, v, sealed(values))
		}
		return nil
	}}
	h := luks.Host{Run: s.run, Root: fstest.MapFS{}, TPM: "/dev/tpm1"}
	n, err := h.Enroll(t.Context(), v, luks.Key("k"), values)
	if err != nil || n != 3 || len(s.args) != 2 {
		t.Errorf("token %d, %v, %q", n, err, s.args)
	}
	for _, want := range []string{"--unlock-key-file=/dev/stdin", "--tpm2-device=/dev/tpm1", "--tpm2-pcrlock= --tpm2-public-key= ", fmt.Sprintf("--tpm2-pcrs=7:sha256=%x+11:sha256=%x", bound.PCRs[7], bound.PCRs[11])} {
		if !strings.Contains(s.args[1], want) {
			t.Errorf("%q lacks %q", s.args[1], want)
		}
	}
	s.args = nil
	if n, err := h.Enroll(t.Context(), v, nil, values); err != nil || n != 3 || len(s.args) != 0 {
		t.Errorf("once more: token %d, %v, %q", n, err, s.args)
	}
	s.do = nil
	if _, err := h.Enroll(t.Context(), v, nil, bound); errkind.Of(err) != errkind.Internal || !strings.Contains(err.Error(), "has added no token") {
		t.Errorf("a tool that adds no token: %v", err)
	}
	if last := s.args[len(s.args)-1]; !strings.Contains(last, "--unlock-tpm2-device=/dev/tpm1") || !strings.Contains(last, "--tpm2-pcrs=4:sha256+7:sha256=01") {
		t.Errorf("without a key it runs %q", last)
	}
}

// A TPM that does not open the volume is Denied, as a wrong key is; another failure of the tool
// is not, because the key may be right.
func TestAnEnrolmentThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	v := onDevice(t, plain)
	exit := &run.ExitError{Tool: "systemd-cryptenroll", Status: "exit status 1"}
	s := &script{do: func(line string) error {
		if strings.HasPrefix(line, "systemd-cryptenroll ") {
			return exit
		}
		return nil
	}}
	h := luks.Host{Run: s.run, Root: fstest.MapFS{}}
	if _, err := h.Enroll(t.Context(), v, nil, bound); errkind.Of(err) != errkind.Denied || !strings.Contains(err.Error(), "the TPM in its present state does not open it") {
		t.Errorf("by the TPM: %v", err)
	}
	if _, err := h.Enroll(t.Context(), v, luks.Key("k"), bound); errkind.Of(err) == errkind.Denied || !errors.Is(err, exit) {
		t.Errorf("by a key: %v", err)
	}
	s.do = func(line string) error {
		if strings.HasPrefix(line, "systemd-cryptenroll ") {
			return os.Remove(v.Device)
		}
		return nil
	}
	if _, err := h.Enroll(t.Context(), v, nil, bound); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a device that disappears: %v", err)
	}
}

// A token goes after its key slots, so that a repetition after a power cut finds them; and the
// last key slot never goes.
func TestATokenIsRemovedAfterItsSlots(t *testing.T) {
	t.Parallel()
	v := onDevice(t, sealed(bound))
	s := &script{}
	h := luks.Host{Run: s.run, Root: fstest.MapFS{}}
	if err := h.Wipe(t.Context(), v, 3); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"cryptsetup luksKillSlot --batch-mode " + v.Device + " 1", "cryptsetup luksKillSlot --batch-mode " + v.Device + " 2",
		"cryptsetup token remove --token-id=3 " + v.Device,
	}
	if !slices.Equal(s.args, want) {
		t.Errorf("it runs %q, want %q", s.args, want)
	}
	s.args = nil
	if err := errors.Join(h.Wipe(t.Context(), v, 4), h.KillSlot(t.Context(), v, 9)); err != nil || len(s.args) != 0 {
		t.Errorf("what does not exist: %v, %q", err, s.args)
	}
	exit := &run.ExitError{Tool: "cryptsetup", Status: "exit status 1"}
	s.do = func(string) error { return exit }
	if err := h.Wipe(t.Context(), v, 3); !errors.Is(err, exit) || len(s.args) != 1 {
		t.Errorf("after a failure: %v, %q", err, s.args)
	}
	s.args = nil
	rewrite(t, v, `{"keyslots":{"1":{}},"tokens":{"3":{"type":"systemd-tpm2","keyslots":["1"]}}}`)
	if err := h.Wipe(t.Context(), v, 3); errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "slot 1 is the last key slot") || len(s.args) != 0 {
		t.Errorf("the last slot: %v, %q", err, s.args)
	}
	if err := os.Remove(v.Device); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"wipe": h.Wipe(t.Context(), v, 3), "kill": h.KillSlot(t.Context(), v, 1)} {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s without a device: %v", name, err)
		}
	}
}

// Headers come from a disk that anybody may have written: each field has its bounds.
func TestAHeaderWithImpossibleFieldsIsRefused(t *testing.T) {
	t.Parallel()
	many := strings.TrimSuffix(strings.Repeat("1,", 1000), ",")
	for name, text := range map[string]string{
		"a token that is a list":      `{"keyslots":{"0":{}},"tokens":{"0":[]}}`,
		"a token of slot x":           `{"keyslots":{"0":{}},"tokens":{"0":{"type":"a","keyslots":["x"]}}}`,
		"a token number 99":           `{"keyslots":{"0":{}},"tokens":{"99":{"type":"a"}}}`,
		"registers that are a text":   `{"keyslots":{"0":{}},"tokens":{"0":{"type":"systemd-tpm2","tpm2-pcrs":"7"}}}`,
		"a thousand registers":        `{"keyslots":{"0":{}},"tokens":{"0":{"type":"systemd-tpm2","tpm2-pcrs":[` + many + `]}}}`,
		"a checksum of another kind":  "",
		"a header at another place":   "",
		"a header of impossible size": "",
	} {
		b := header(0, 1, text)
		switch name {
		case "a checksum of another kind":
			copy(b[72:], "md5\x00\x00\x00")
		case "a header at another place":
			b[256+7] = 1
		case "a header of impossible size":
			b[8+7] = 1
		}
		if h, err := luks.Read(bytes.NewReader(b)); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %+v, %v (%s)", name, h, err, errkind.Of(err))
		}
	}
}

// A policy of unusual values is none that a token can have, and no register means any state.
func TestAPolicyNeedsTheValuesOfItsRegisters(t *testing.T) {
	t.Parallel()
	for name, pcrs := range map[string]map[int][]byte{"the present value": {7: nil}, "a short value": {7: {1}}, "register 24": {24: make([]byte, 32)}} {
		if p := (luks.Binding{PCRs: pcrs}).Policy(); p != nil {
			t.Errorf("%s: %x", name, p)
		}
	}
	if p := (luks.Binding{}).Policy(); !bytes.Equal(p, make([]byte, 32)) {
		t.Errorf("without a register: %x", p)
	}
	token := luks.NewTPMToken(3, 1, luks.Binding{PCRs: map[int][]byte{7: make([]byte, 32)}})
	if token.Number != 3 || !slices.Equal(token.PCRs, []int{7}) || len(token.Policy()) != 32 || !slices.Equal(token.Slots, []int{1}) {
		t.Errorf("%+v", token)
	}
}
