package ddi

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	sigSize    = 16 << 10 // of a signature partition of Build
	maxSigSize = 4 << 20  // the largest that systemd reads
)

// Signature is the unverified content of a signature partition.
type Signature struct {
	RootHash               [32]byte
	CertificateFingerprint string // SHA-256 of the certificate in DER, in hex; only a hint
	PKCS7                  []byte // DER, detached, over the root hash in lower-case hex
}

func readSignature(r *io.SectionReader) (*Signature, error) {
	if r.Size() > maxSigSize {
		return nil, errkind.Errorf(errkind.Corrupt, "the signature partition has %d bytes, more than %d", r.Size(), maxSigSize)
	}
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read signature: %w", err)
	}
	return parseSignature(b)
}

// parseSignature reads one JSON object, padded with zeros. It accepts only the three
// known keys, each once and in exactly this spelling, because another parser could read
// any other object differently.
func parseSignature(b []byte) (*Signature, error) {
	text, padding, _ := bytes.Cut(b, []byte{0})
	if i := bytes.IndexFunc(padding, func(r rune) bool { return r != 0 }); i >= 0 {
		return nil, errkind.Errorf(errkind.Corrupt, "there are bytes after the end of the signature, at byte %d", len(text)+1+i)
	}
	fields, err := parseStrings(text)
	if err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read signature: %w", err)
	}
	sig := &Signature{CertificateFingerprint: fields["certificateFingerprint"]}
	if n, err := hex.Decode(sig.RootHash[:], clip(fields["rootHash"], 64)); err != nil || n != 32 || fields["rootHash"] != HashString(sig.RootHash) {
		return nil, errkind.Errorf(errkind.Corrupt, "the signature's root hash is not 64 hexadecimal digits in lower case")
	}
	if fp := fields["certificateFingerprint"]; fp != "" {
		if raw, err := hex.DecodeString(fp); err != nil || len(raw) != sha256.Size {
			return nil, errkind.Errorf(errkind.Corrupt, "the signature's certificate fingerprint is not 64 hexadecimal digits")
		}
	}
	if strings.ContainsAny(fields["signature"], "\r\n") { // the decoder would skip them
		return nil, errkind.Errorf(errkind.Corrupt, "the signature has line breaks")
	}
	if sig.PKCS7, err = base64.StdEncoding.Strict().DecodeString(fields["signature"]); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "the signature is not in base64: %w", err)
	}
	if len(sig.PKCS7) == 0 {
		return nil, errkind.Errorf(errkind.Corrupt, "the signature is empty")
	}
	return sig, nil
}

func clip(s string, n int) []byte { return []byte(s[:min(n, len(s))]) }

// parseStrings reads a JSON object whose members are known and are strings.
func parseStrings(text []byte) (map[string]string, error) {
	out := map[string]string{}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("it does not begin with a JSON object")
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := k.(string)
		switch key {
		case "rootHash", "certificateFingerprint", "signature":
		default:
			return nil, fmt.Errorf("unknown member %.40q", key)
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("member %q occurs twice", key)
		}
		v, err := d.Token()
		if err != nil {
			return nil, err
		}
		value, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("member %q is not a string", key)
		}
		out[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if rest := bytes.TrimSpace(text[d.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("there is text after the JSON object")
	}
	return out, nil
}

// encodeSignature returns the content of a signature partition.
func encodeSignature(root [32]byte, cert *x509.Certificate, pkcs7 []byte) ([]byte, error) {
	text, err := json.Marshal(struct {
		RootHash    string `json:"rootHash"`
		Fingerprint string `json:"certificateFingerprint"`
		Signature   []byte `json:"signature"`
	}{HashString(root), fmt.Sprintf("%x", sha256.Sum256(cert.Raw)), pkcs7})
	if err != nil {
		return nil, fmt.Errorf("encode signature: %w", err)
	}
	if len(text) > sigSize {
		return nil, errkind.Errorf(errkind.TooLarge, "the signature needs %d bytes, and the partition has %d", len(text), sigSize)
	}
	return append(text, make([]byte, sigSize-len(text))...), nil
}
