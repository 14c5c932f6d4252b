package extension

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/smallstep/pkcs7"

	"github.com/trident-project/trident/internal/linux/inroot"
)

const (
	maxSigPartition = 4 << 20  // the largest that systemd reads
	maxPKCS7        = 64 << 10 // the largest that checkSignature checks
)

// checkSignature checks a signature partition by the rules of systemd in user space
// (verity.d): it ignores dates, chains, and the certificates in the signature.
func checkSignature(part *io.SectionReader, certs []*x509.Certificate) error {
	if part.Size() > maxSigPartition {
		return fmt.Errorf("has a signature partition of more than %d bytes", maxSigPartition)
	}
	raw := make([]byte, part.Size())
	if _, err := part.ReadAt(raw, 0); err != nil {
		return fmt.Errorf("has a signature partition that cannot be read: %w", err)
	}
	text, padding, _ := bytes.Cut(raw, []byte{0})
	var sig struct {
		RootHash  string `json:"rootHash"`
		Signature []byte `json:"signature"`
	}
	if len(bytes.Trim(padding, "\x00")) > 0 {
		return errors.New("has a corrupt signature partition: more after its end")
	}
	if err := json.Unmarshal(text, &sig); err != nil {
		return fmt.Errorf("has a corrupt signature partition: %w", err)
	}
	if hash, err := hex.DecodeString(sig.RootHash); err != nil || len(hash) != 32 {
		return errors.New("has a corrupt signature partition: the root hash is not 64 hexadecimal digits")
	}
	if len(sig.Signature) > maxPKCS7 {
		return nil
	}
	if !signedByAny(sig.Signature, []byte(sig.RootHash), certs) {
		return errors.New("is not signed by a certificate in verity.d")
	}
	return nil
}

func signedByAny(der, content []byte, certs []*x509.Certificate) (ok bool) {
	defer func() {
		if recover() != nil { // the parser met bytes that it does not expect
			ok = false
		}
	}()
	p, err := pkcs7.Parse(der)
	if err != nil {
		return false
	}
	p.Content = content
	if len(p.Signers) > 1 { // systemd needs the certificates of all of them
		p.Certificates = certs
		return p.Verify() == nil
	}
	for _, cert := range certs {
		p.Certificates = []*x509.Certificate{cert}
		if p.Verify() == nil {
			return true
		}
	}
	return false
}

// verityCerts returns the certificates by which systemd, in user space, accepts a signed
// image: the first certificate of each verity.d/*.crt. Of files with the same name it reads
// that in /etc, else /run, /usr/local/lib, /usr/lib. Like systemd it ignores a file without
// a certificate.
func verityCerts(root string) ([]*x509.Certificate, error) {
	fsys := inroot.FS(root)
	files, err := fsys.DropIns(".crt", "etc/verity.d", "run/verity.d", "usr/local/lib/verity.d", "usr/lib/verity.d")
	if err != nil {
		return nil, fmt.Errorf("list the certificates in verity.d: %w", err)
	}
	var certs []*x509.Certificate
	for _, file := range files {
		data, err := fsys.ReadFile(file, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				certs = append(certs, cert)
			}
			break
		}
	}
	return certs, nil
}
