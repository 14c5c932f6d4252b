package luks_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
)

const (
	uuid = "11111111-2222-4333-8444-555555555555"
	size = 16 << 10 // of each copy of the header
)

// header returns the copy of a header at an offset.
func header(at, epoch uint64, text string) []byte {
	out := make([]byte, size)
	copy(out, "LUKS\xba\xbe")
	if at > 0 {
		copy(out, "SKUL\xba\xbe")
	}
	out[7] = 2
	binary.BigEndian.PutUint64(out[8:], size)
	binary.BigEndian.PutUint64(out[16:], epoch)
	copy(out[72:], "sha256")
	copy(out[168:], uuid)
	binary.BigEndian.PutUint64(out[256:], at)
	copy(out[4096:], text)
	sum := sha256.Sum256(out)
	copy(out[448:], sum[:])
	return out
}

func volume(first, second []byte) []byte { return append(slices.Clone(first), second...) }

const plain = `{"keyslots":{"0":{},"3":{}},"tokens":{}}`

func TestTheNewestWholeCopyOfAHeaderCounts(t *testing.T) {
	t.Parallel()
	broken := func(b []byte) []byte {
		b[5000]++
		return b
	}
	for name, c := range map[string]struct {
		first, second []byte
		epoch         uint64
		kind          errkind.Kind
	}{
		"the same":         {header(0, 5, plain), header(size, 5, plain), 5, ""},
		"the second newer": {header(0, 5, plain), header(size, 6, plain), 6, ""},
		"the first torn":   {broken(header(0, 6, plain)), header(size, 5, plain), 5, ""},
		"the second torn":  {header(0, 5, plain), broken(header(size, 6, plain)), 5, ""},
		"both torn":        {broken(header(0, 5, plain)), broken(header(size, 5, plain)), 0, errkind.Corrupt},
		"none":             {make([]byte, size), make([]byte, size), 0, errkind.NotFound},
		"too short":        {[]byte("LUKS\xba\xbe"), nil, 0, errkind.NotFound},
		"version 1":        {append([]byte("LUKS\xba\xbe\x00\x01"), make([]byte, size)...), nil, 0, errkind.Unsupported},
		"no JSON":          {header(0, 5, "{"), header(size, 5, "["), 0, errkind.Corrupt},
		"slot 32":          {header(0, 5, `{"keyslots":{"32":{}}}`), nil, 0, errkind.Corrupt},
		"slot 01":          {header(0, 5, `{"keyslots":{"01":{}}}`), nil, 0, errkind.Corrupt},
	} {
		h, err := luks.Read(bytes.NewReader(volume(c.first, c.second)))
		if c.kind != "" {
			if errkind.Of(err) != c.kind {
				t.Errorf("%s: %v (%s)", name, err, errkind.Of(err))
			}
		} else if err != nil || h.Epoch != c.epoch || h.UUID != uuid || !slices.Equal(h.Slots, []int{0, 3}) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

func TestTokensAreKnownByTheirBinding(t *testing.T) {
	t.Parallel()
	to := luks.Binding{PCRs: map[int][]byte{7: bytes.Repeat([]byte{1}, 32), 11: bytes.Repeat([]byte{2}, 32)}}
	token := `{"type":"systemd-tpm2","keyslots":["1"],"tpm2-pcrs":[7,11],"tpm2-pcr-bank":"sha256","tpm2-policy-hash":"` + hex.EncodeToString(to.Policy()) + `"%s}`
	tokens := map[string]json.RawMessage{
		"0": json.RawMessage(`{"type":"other","keyslots":[]}`), "2": json.RawMessage(strings.Replace(token, "%s", "", 1)),
		"4": json.RawMessage(strings.Replace(token, "%s", `,"tpm2-pin":true`, 1)), "5": json.RawMessage(strings.Replace(token, "%s", `,"tpm2_pcrlock":true`, 1)),
	}
	all, err := json.Marshal(map[string]any{"keyslots": map[string]any{"0": 1, "1": 1}, "tokens": tokens})
	if err != nil {
		t.Fatal(err)
	}
	h, err := luks.Read(bytes.NewReader(header(0, 1, string(all))))
	if err != nil {
		t.Fatal(err)
	}
	is := []int{}
	for _, tok := range h.Tokens {
		if tok.Is(to) {
			is = append(is, tok.Number)
		}
	}
	if last := h.Tokens[3]; !slices.Equal(is, []int{2}) || !last.PCRLock || h.Tokens[0].Type != "other" {
		t.Errorf("%v of %+v", is, h)
	}
	to.PCRs[11] = bytes.Repeat([]byte{3}, 32)
	if n, ok := h.Bound(to); ok {
		t.Errorf("token %d has another binding", n)
	}
	if bare := h.Bare(); !slices.Equal(bare, []int{0}) {
		t.Errorf("slots without tokens: %v", bare)
	}
}

func TestAKeyDoesNotPrint(t *testing.T) {
	t.Parallel()
	k := luks.Key("geheim")
	if text := fmt.Sprintf("%v %s %#v %+v", k, k, k, struct{ K luks.Key }{k}); strings.Contains(text, "geheim") || strings.Contains(text, "103") {
		t.Error(text)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(plain), uint64(3))
	f.Add([]byte(`{"tokens":{"0":{"type":"systemd-tpm2","tpm2-policy-hash":["a"]}}}`), uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, epoch uint64) {
		if len(text) > size-4096 {
			return
		}
		h, err := luks.Read(bytes.NewReader(header(0, epoch, string(text)))) // the checksum is right
		if err == nil && (len(h.Slots) > 32 || len(h.Tokens) > 32) {
			t.Errorf("%+v", h)
		}
		_, _ = luks.Read(bytes.NewReader(text))
	})
}
