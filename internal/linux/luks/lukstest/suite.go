package lukstest

import (
	"crypto/sha256"
	"maps"
	"slices"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
)

// Bench is one volume that is not encrypted yet, and a TPM, for a case of the suite.
type Bench struct {
	Manager   luks.Manager
	Volume    luks.Volume
	Registers func() map[int][]byte // of the SHA-256 bank
	Extend    func(register int, digest [32]byte)
}

const resets = 23 // a register that tests may extend, on any TPM

// Suite runs the cases that every Manager must pass, each with a new bench. No case opens a
// volume at /dev/mapper, so the suite needs no device mapper.
func Suite(t *testing.T, make func(t *testing.T) Bench) {
	key, other := luks.Key("a key of\x00any\nbytes"), luks.Key("another key")
	formatted := func(t *testing.T) Bench {
		t.Helper()
		b := make(t)
		if err := b.Manager.Format(t.Context(), b.Volume, key); err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, run := range map[string]func(*testing.T){
		"a device without a header": func(t *testing.T) {
			b := make(t)
			if _, err := b.Manager.Header(t.Context(), b.Volume.Device); errkind.Of(err) != errkind.NotFound {
				t.Errorf("got %v", err)
			}
		},
		"format twice": func(t *testing.T) {
			b := formatted(t)
			if err := b.Manager.Format(t.Context(), b.Volume, other); err != nil {
				t.Fatal(err)
			}
			if h := b.header(t); h.UUID != b.Volume.UUID || !slices.Equal(h.Slots, []int{0}) || len(h.Tokens) > 0 {
				t.Errorf("%+v", h)
			}
			if err := b.Manager.Test(t.Context(), b.Volume, other); err != nil {
				t.Errorf("the key of the second format: %v", err)
			}
			if err := b.Manager.Test(t.Context(), b.Volume, key); errkind.Of(err) != errkind.Denied {
				t.Errorf("the key of the first format: %v", err)
			}
		},
		"a wrong key binds nothing": func(t *testing.T) {
			b := formatted(t)
			before := b.header(t)
			_, err := b.Manager.Enroll(t.Context(), b.Volume, other, b.now(resets))
			if errkind.Of(err) != errkind.Denied || b.header(t).Epoch != before.Epoch {
				t.Errorf("got %v", err)
			}
		},
		"bind to the present": func(t *testing.T) { bindToPresent(t, formatted(t), key) },
		"bind to two futures": func(t *testing.T) { bindToFutures(t, formatted(t), key) },
		"the last slot stays": func(t *testing.T) { lastSlotStays(t, formatted(t), key) },
		"a present value":     func(t *testing.T) { presentValue(t, formatted(t), key) },
		"no register": func(t *testing.T) {
			b := formatted(t)
			b.enroll(t, key, luks.Binding{})
			b.Extend(resets, sha256.Sum256([]byte("changed")))
			if !b.opens(t) {
				t.Error("the TPM does not open the volume")
			}
		},
		"a slot that is alone": func(t *testing.T) { loneSlot(t, formatted(t), key) },
	} {
		t.Run(name, run)
	}
}

func (b Bench) header(t *testing.T) luks.Header {
	t.Helper()
	h, err := b.Manager.Header(t.Context(), b.Volume.Device)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// now returns the binding to the present values of registers.
func (b Bench) now(registers ...int) luks.Binding {
	all, out := b.Registers(), map[int][]byte{}
	for _, n := range registers {
		out[n] = all[n]
	}
	return luks.Binding{PCRs: out}
}

func (b Bench) enroll(t *testing.T, key luks.Key, to luks.Binding) int {
	t.Helper()
	n, err := b.Manager.Enroll(t.Context(), b.Volume, key, to)
	if err != nil {
		t.Fatal(err)
	}
	if h := b.header(t); to.Policy() != nil {
		if tok, ok := h.Token(n); !ok || !tok.Is(to) {
			t.Fatalf("token %d of %+v does not have the binding", n, h)
		}
	}
	return n
}

// opens reports whether the TPM opens the volume: it has it add a binding that no boot has,
// which opens nothing.
func (b Bench) opens(t *testing.T) bool {
	t.Helper()
	never := luks.Binding{PCRs: map[int][]byte{resets: slices.Repeat([]byte{0xee}, 32)}}
	n, err := b.Manager.Enroll(t.Context(), b.Volume, nil, never)
	if err == nil {
		err = b.Manager.Wipe(t.Context(), b.Volume, n)
		if err != nil {
			t.Fatal(err)
		}
		return true
	}
	if errkind.Of(err) != errkind.Denied {
		t.Fatal(err)
	}
	return false
}

func bindToPresent(t *testing.T, b Bench, key luks.Key) {
	if b.opens(t) {
		t.Fatal("the TPM opens a volume without a token")
	}
	first := b.enroll(t, key, b.now(7, resets))
	if !b.opens(t) {
		t.Error("the TPM does not open the volume")
	}
	before := b.header(t)
	if again := b.enroll(t, key, b.now(7, resets)); again != first || b.header(t).Epoch != before.Epoch {
		t.Errorf("the same binding is token %d, then %d", first, again)
	}
	b.Extend(resets, sha256.Sum256([]byte("changed")))
	if b.opens(t) {
		t.Error("the TPM opens the volume with other registers")
	}
}

func bindToFutures(t *testing.T, b Bench, key luks.Key) {
	step := sha256.Sum256([]byte("boot"))
	to := b.now(7, resets)
	sum := sha256.Sum256(append(slices.Clone(to.PCRs[resets]), step[:]...))
	future := luks.Binding{PCRs: maps.Clone(to.PCRs)}
	future.PCRs[resets] = sum[:]
	old, next := b.enroll(t, key, to), b.enroll(t, key, future)
	if old == next || !b.opens(t) {
		t.Fatalf("tokens %d and %d", old, next)
	}
	b.Extend(resets, step)
	if !b.opens(t) {
		t.Error("the TPM does not open the volume with the registers that were predicted")
	}
	for range 2 { // a repetition is no error
		if err := b.Manager.Wipe(t.Context(), b.Volume, next); err != nil {
			t.Fatal(err)
		}
	}
	if h := b.header(t); b.opens(t) || len(h.Tokens) != 1 || h.Tokens[0].Number != old || len(h.Slots) != 2 {
		t.Errorf("after the wipe of token %d: %+v", next, h)
	}
}

func lastSlotStays(t *testing.T, b Bench, key luks.Key) {
	if err := b.Manager.KillSlot(t.Context(), b.Volume, 0); errkind.Of(err) != errkind.Precondition {
		t.Errorf("the last key slot: %v", err)
	}
	token := b.enroll(t, key, b.now(resets))
	if err := b.Manager.KillSlot(t.Context(), b.Volume, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Manager.Wipe(t.Context(), b.Volume, token); errkind.Of(err) != errkind.Precondition {
		t.Errorf("the token of the last key slot: %v", err)
	}
	if !b.opens(t) {
		t.Error("nothing opens the volume")
	}
}

func presentValue(t *testing.T, b Bench, key luks.Key) {
	n := b.enroll(t, key, luks.Binding{PCRs: map[int][]byte{resets: nil}})
	if tok, ok := b.header(t).Token(n); !ok || !tok.Is(b.now(resets)) || !slices.Equal(tok.PCRs, []int{resets}) {
		t.Errorf("token %d is %+v", n, tok)
	}
}

func loneSlot(t *testing.T, b Bench, key luks.Key) {
	token := b.enroll(t, key, b.now(resets))
	if bare := b.header(t).Bare(); !slices.Equal(bare, []int{0}) {
		t.Errorf("slots without a token: %v", bare)
	}
	tok, _ := b.header(t).Token(token)
	for range 2 {
		if err := b.Manager.KillSlot(t.Context(), b.Volume, tok.Slots[0]); err != nil {
			t.Fatal(err)
		}
	}
	if h := b.header(t); !slices.Equal(h.Slots, []int{0}) {
		t.Errorf("%+v", h)
	}
	if err := b.Manager.Wipe(t.Context(), b.Volume, token); err != nil || len(b.header(t).Tokens) > 0 {
		t.Errorf("a token without a slot: %v", err)
	}
}
