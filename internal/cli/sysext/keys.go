package sysext

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// This file reads keys, certificates and signatures. For a file in another form the error
// has the command that converts it as its hint.

func readCertificate(path string) (*x509.Certificate, error) {
	data, err := readSmall("certificate", path)
	if err != nil {
		return nil, err
	}
	block, err := findBlock("certificate", path, data, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errkind.Errorf(errkind.Invalid, "read certificate %s: %w", path, err)
	}
	return cert, nil
}

// readKey reads a private key. Its errors have no content of the file.
func readKey(path string) (crypto.Signer, error) {
	data, err := readSmall("key", path)
	if err != nil {
		return nil, err
	}
	block, err := findBlock("key", path, data, "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, encryptedKey(path)
	}
	var key any
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if s, ok := key.(crypto.Signer); ok && err == nil {
		return s, nil
	}
	return nil, errkind.WithHint(errkind.Errorf(errkind.Invalid, "read key %s: the file has no private key that can sign", path),
		"Keys are RSA from 2048 bits, or ECDSA over P-256, P-384 or P-521.")
}

func encryptedKey(path string) error {
	return errkind.WithHint(errkind.Errorf(errkind.Invalid, "read key %s: the key is encrypted", path),
		"Decrypt it into a place that nobody else can read: openssl pkey -in %s -out KEY. Or leave it where it is, and sign elsewhere: see --print-root-hash in trident sysext sign --help.", path)
}

// findBlock returns the first PEM block of one of the types.
func findBlock(what, path string, data []byte, types ...string) (*pem.Block, error) {
	var others []string
	for rest := data; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if slices.Contains(types, block.Type) {
			return block, nil
		}
		others = append(others, block.Type)
	}
	err := errkind.Errorf(errkind.Invalid, "read %s %s: it has no PEM block %q", what, path, types[0])
	if len(others) > 0 {
		err = errkind.Errorf(errkind.Invalid, "read %s %s: it has no PEM block %q, but %.80q", what, path, types[0], others[0])
	}
	if hint := conversion(what, path, data, others); hint != "" {
		return nil, errkind.WithHint(err, "%s", hint)
	}
	if slices.Contains(others, "ENCRYPTED PRIVATE KEY") && what == "key" {
		return nil, encryptedKey(path)
	}
	return nil, err
}

// conversion returns the command that converts a certificate or a key to PEM; "" for an
// unknown form.
func conversion(what, path string, data []byte, blocks []string) string {
	has := func(block string) bool { return slices.Contains(blocks, block) }
	switch {
	case has("OPENSSH PRIVATE KEY"):
		return fmt.Sprintf("It is a key of ssh. Convert it: ssh-keygen -p -m PKCS8 -f %s", path)
	case has("PUBLIC KEY"), has("RSA PUBLIC KEY"):
		return "It is a public key; what signs is the private one."
	case what == "key" && has("CERTIFICATE"):
		return "It is the certificate; name the private key that belongs to it."
	case what == "certificate" && has("CERTIFICATE REQUEST"):
		return fmt.Sprintf("It is a request for a certificate. Have it signed: openssl x509 -req -in %s -key KEY -days 3650 -out CERT", path)
	case what == "certificate" && slices.ContainsFunc(blocks, func(b string) bool { return strings.HasSuffix(b, "PRIVATE KEY") }):
		return "It is the private key; name the certificate that belongs to it."
	case has("PKCS7"):
		return fmt.Sprintf("Take the certificate out of it: openssl pkcs7 -print_certs -in %s -out CERT", path)
	}
	if len(data) == 0 || data[0] != 0x30 { // not DER
		return ""
	}
	if _, err := x509.ParseCertificate(data); err == nil && what == "certificate" {
		return fmt.Sprintf("It is in DER form. Convert it: openssl x509 -inform der -in %s -out CERT", path)
	}
	if isDERKey(data) && what == "key" {
		return fmt.Sprintf("It is in DER form. Convert it: openssl pkey -inform der -in %s -out KEY", path)
	}
	if what == "key" {
		return fmt.Sprintf("If it is in DER form, convert it: openssl pkey -inform der -in %[1]s -out KEY. If it is PKCS#12 (.p12, .pfx): openssl pkcs12 -in %[1]s -nocerts -nodes -out KEY", path)
	}
	return fmt.Sprintf("If it is PKCS#12 (.p12, .pfx), take the certificate out of it: openssl pkcs12 -in %s -clcerts -nokeys -out CERT", path)
}

func isDERKey(data []byte) bool {
	_, err8 := x509.ParsePKCS8PrivateKey(data)
	_, err1 := x509.ParsePKCS1PrivateKey(data)
	_, errEC := x509.ParseECPrivateKey(data)
	return err8 == nil || err1 == nil || errEC == nil
}

// readSignature reads a PKCS#7 in DER.
func readSignature(path string) ([]byte, error) {
	data, err := readSmall("signature", path)
	if err != nil {
		return nil, err
	}
	other := func(form, hint string) ([]byte, error) {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Invalid, "read signature %s: it is %s; it must be PKCS#7 in DER", path, form), hint, path)
	}
	head := strings.ToLower(string(data[:min(len(data), 4096)]))
	switch {
	case len(data) == 0:
		return nil, errkind.Errorf(errkind.Invalid, "read signature %s: it is empty", path)
	case data[0] == 0x30:
		return data, nil
	case strings.Contains(head, "mime-version:"), strings.Contains(head, "content-type: multipart/signed"), strings.Contains(head, "content-type: application/"):
		return other("an S/MIME message", "Convert it: openssl smime -pk7out -in %s | openssl pkcs7 -outform der -out SIGNATURE. Or sign with -outform der.")
	case strings.Contains(head, "-----begin cms"):
		return other("CMS in PEM", "Convert it: openssl cms -cmsout -inform pem -in %s -outform der -out SIGNATURE. Or sign with -outform der.")
	case strings.Contains(head, "-----begin pkcs7"), strings.Contains(head, "-----begin pkcs #7"):
		return other("in PEM", "Convert it: openssl pkcs7 -in %s -outform der -out SIGNATURE. Or sign with -outform der.")
	case strings.Contains(head, "-----begin pgp"):
		return other("a signature of gpg", "A host checks PKCS#7 only. Sign with openssl; see trident sysext sign --help. (%s stays as it is.)")
	case strings.Contains(head, "-----begin"):
		return other("in PEM, and not a signature", "Name the signature that was made over the root hash, not %s.")
	}
	if raw, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(data), nil))); err == nil && len(raw) > 0 && raw[0] == 0x30 {
		return other("in base64", "Convert it: base64 -d %s > SIGNATURE")
	}
	return other("of another form", "Make %s again: openssl smime -sign -noattr -binary -md sha256 -in hash -outform der -signer CERT -inkey KEY -out SIGNATURE")
}

// readSmall reads a file of at most 1 MiB.
func readSmall(what, path string) ([]byte, error) {
	data, err := regfile.ReadFile(path, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return data, nil
}
