package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tpmToken is the type of the tokens of systemd-cryptenroll(1) for a TPM.
const tpmToken = "systemd-tpm2"

// Token is a token of a header (LUKS2 on-disk format, section 3.3).
type Token struct {
	Number int
	Type   string // systemd-tpm2, systemd-recovery, ...
	Slots  []int
	// PCRs are the registers of a token of type systemd-tpm2, in any bank. PCRLock reports
	// that an NV index of the TPM has its policy instead.
	PCRs    []int
	PCRLock bool

	policy []byte // digest of the policy, if it is of nothing but registers of the SHA-256 bank
}

// Is reports whether t opens its key slot while the registers have the values of to, and in no
// other state. It is false if a value of to is nil.
func (t Token) Is(to Binding) bool {
	p := to.Policy()
	return p != nil && bytes.Equal(t.policy, p)
}

// Policy returns the digest of the policy of a token whose policy is of nothing but registers
// of the SHA-256 bank; nil for any other token.
func (t Token) Policy() []byte { return t.policy }

// Binding is the state of the TPM in which it opens a key slot: the values of registers of
// the SHA-256 bank, by number. A nil value means the present one.
type Binding struct {
	PCRs map[int][]byte
}

// numbers returns the registers of the binding, sorted.
func (b Binding) numbers() []int { return slices.Sorted(maps.Keys(b.PCRs)) }

// argument returns the binding as an argument of systemd-cryptenroll(1).
func (b Binding) argument() string {
	var out []string
	for _, n := range b.numbers() {
		text := fmt.Sprintf("%d:sha256", n)
		if v := b.PCRs[n]; v != nil {
			text += "=" + hex.EncodeToString(v)
		}
		out = append(out, text)
	}
	return "--tpm2-pcrs=" + strings.Join(out, "+")
}

// Policy returns the digest of the TPM policy with the values of the binding (TPM 2.0 Library,
// Part 3, TPM2_PolicyPCR), or nil if a value is nil. Without a register it is zeros: then any
// system opens the key slot.
func (b Binding) Policy() []byte {
	const (
		policyPCR = 0x17f // TPM_CC_PolicyPCR
		sha256Alg = 0x000b
		maxPCR    = 23
	)
	in := make([]byte, sha256.Size) // a session begins with zeros
	if len(b.PCRs) == 0 {
		return in
	}
	values, selected := sha256.New(), make([]byte, 3)
	for _, n := range b.numbers() {
		v := b.PCRs[n]
		if len(v) != sha256.Size || n < 0 || n > maxPCR {
			return nil
		}
		values.Write(v)
		selected[n/8] |= 1 << (n % 8)
	}
	in = binary.BigEndian.AppendUint32(in, policyPCR)
	in = binary.BigEndian.AppendUint32(in, 1) // selections
	in = binary.BigEndian.AppendUint16(in, sha256Alg)
	in = append(append(in, byte(len(selected))), selected...)
	out := sha256.Sum256(values.Sum(in))
	return out[:]
}

// parseToken reads a token. Fields of types other than systemd's are ignored.
func parseToken(n int, raw []byte) (Token, error) {
	var doc struct {
		Type  string   `json:"type"`
		Slots []string `json:"keyslots"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return Token{}, err
	}
	slots, err := numbers(doc.Slots)
	if err != nil {
		return Token{}, err
	}
	t := Token{Number: n, Type: doc.Type, Slots: slots}
	if t.Type != tpmToken {
		return t, nil
	}
	return t, t.parseTPM(raw)
}

// parseTPM reads the fields that systemd adds to a token for a TPM.
func (t *Token) parseTPM(raw []byte) error {
	var doc struct {
		PCRs    []int           `json:"tpm2-pcrs"`
		Bank    string          `json:"tpm2-pcr-bank"`
		Policy  json.RawMessage `json:"tpm2-policy-hash"` // a text, or several, of which all must hold
		PIN     bool            `json:"tpm2-pin"`
		PCRLock bool            `json:"tpm2_pcrlock"`
		Signed  []int           `json:"tpm2_pubkey_pcrs"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return err
	}
	if len(doc.PCRs) > maxSlots {
		return fmt.Errorf("it names %d registers", len(doc.PCRs))
	}
	t.PCRs, t.PCRLock = doc.PCRs, doc.PCRLock
	var policy string
	if doc.PIN || doc.PCRLock || len(doc.Signed) > 0 || len(doc.PCRs) > 0 && doc.Bank != "sha256" || json.Unmarshal(doc.Policy, &policy) != nil {
		return nil
	}
	if digest, err := hex.DecodeString(policy); err == nil && len(digest) == sha256.Size {
		t.policy = digest
	}
	return nil
}

// NewTPMToken returns a token for a TPM with a binding, as the reader of headers does.
func NewTPMToken(number, slot int, to Binding) Token {
	return Token{Number: number, Type: tpmToken, Slots: []int{slot}, PCRs: to.numbers(), policy: to.Policy()}
}
