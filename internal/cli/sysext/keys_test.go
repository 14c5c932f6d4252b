package sysext

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

// A file of another form than the wanted one is refused, with the command that converts it.
func TestFilesOfOtherFormsAreRefusedWithTheirConversion(t *testing.T) {
	t.Parallel()
	key := func(path string) error { _, err := readKey(path); return err }
	certificate := func(path string) error { _, err := readCertificate(path); return err }
	signature := func(path string) error { _, err := readSignature(path); return err }
	block := func(kind string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("x")}))
	}
	const der = "\x30\x03\x02\x01\x00" // a sequence that is neither a key nor a certificate
	for name, c := range map[string]struct {
		read        func(string) error
		text        string
		says, hints string // PATH stands for the file
	}{
		"key of ssh":                {key, block("OPENSSH PRIVATE KEY"), `it has no PEM block "PRIVATE KEY", but "OPENSSH PRIVATE KEY"`, "It is a key of ssh. Convert it: ssh-keygen -p -m PKCS8 -f PATH"},
		"public key":                {key, block("PUBLIC KEY"), `but "PUBLIC KEY"`, "It is a public key; what signs is the private one."},
		"damaged key of RSA":        {key, block("RSA PRIVATE KEY"), "the file has no private key that can sign", "Keys are RSA from 2048 bits, or ECDSA over P-256, P-384 or P-521."},
		"key in an unknown form":    {key, der, "it has no PEM block", "If it is in DER form, convert it: openssl pkey -inform der -in PATH -out KEY. If it is PKCS#12 (.p12, .pfx): openssl pkcs12 -in PATH -nocerts -nodes -out KEY"},
		"request":                   {certificate, block("CERTIFICATE REQUEST"), `but "CERTIFICATE REQUEST"`, "It is a request for a certificate. Have it signed: openssl x509 -req -in PATH -key KEY -days 3650 -out CERT"},
		"certificates in PKCS#7":    {certificate, block("PKCS7"), `but "PKCS7"`, "Take the certificate out of it: openssl pkcs7 -print_certs -in PATH -out CERT"},
		"certificate in PKCS#12":    {certificate, der, "it has no PEM block", "If it is PKCS#12 (.p12, .pfx), take the certificate out of it: openssl pkcs12 -in PATH -clcerts -nokeys -out CERT"},
		"damaged certificate":       {certificate, block("CERTIFICATE"), "read certificate PATH: x509: ", ""},
		"empty signature":           {signature, "", "read signature PATH: it is empty", ""},
		"CMS in PEM":                {signature, block("CMS"), "it is CMS in PEM; it must be PKCS#7 in DER", "Convert it: openssl cms -cmsout -inform pem -in PATH -outform der -out SIGNATURE. Or sign with -outform der."},
		"signature of gpg":          {signature, block("PGP SIGNATURE"), "it is a signature of gpg", "A host checks PKCS#7 only. Sign with openssl; see trident sysext sign --help. (PATH stays as it is.)"},
		"certificate for signature": {signature, block("CERTIFICATE"), "it is in PEM, and not a signature", "Name the signature that was made over the root hash, not PATH."},
		"text for signature":        {signature, "none", "it is of another form", "Make PATH again: openssl smime -sign -noattr -binary -md sha256 -in hash -outform der -signer CERT -inkey KEY -out SIGNATURE"},
	} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := c.read(path)
		says, hints := strings.ReplaceAll(c.says, "PATH", path), strings.ReplaceAll(c.hints, "PATH", path)
		if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), says) || errkind.Hint(err) != hints {
			t.Errorf("%s: %v\nhint: %s", name, err, errkind.Hint(err))
		}
	}
}
