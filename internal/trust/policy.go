package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/unmerged"
)

// A Policy is a set of trusted certificates. A Policy without certificates refuses
// every image.
type Policy struct {
	certs []trustedCert
}

// A trustedCert is a certificate of a policy.
type trustedCert struct {
	*x509.Certificate
	path string
}

// A Certificate describes a trusted certificate to people.
type Certificate struct {
	Subject     string
	Fingerprint string // SHA-256 of its DER form, in lower-case hex
	NotBefore   time.Time
	NotAfter    time.Time
	Path        string // of its file, as seen from the root folder
}

// Limits of one file in trust.d, in bytes, and of the number of all certificates.
const (
	maxFile  = 64 << 10
	maxCerts = 256
)

// The folders of trusted certificates. A file in the first folder overrides a file
// of the same name in the second.
const (
	adminDir  = "etc/trident/trust.d"
	vendorDir = "usr/lib/trident/trust.d"
)

// Load reads the certificates that are trusted on the host below root. The
// vendor's are in /usr/lib/trident/trust.d, the administrator's in
// /etc/trident/trust.d. An administrator's file overrides the vendor's file of the
// same name; an empty file, or a link to /dev/null or to a missing file, removes
// it. Load fails if a file contains anything but whole certificates, because to
// guess the intention would be worse than to fail.
//
// Load reads both folders below the extensions that systemd has merged over /usr
// and /etc: no extension can add, replace or hide a certificate.
func Load(root string) (Policy, error) {
	p, faults := load(root)
	for _, f := range faults {
		if !f.isMask {
			return Policy{}, f.error
		}
	}
	return p, nil
}

// Survey returns the certificates that Load would trust, and the faults of the
// others, for people. If there are faults, Load may fail.
func Survey(root string) (trusted []Certificate, faults []error) {
	p, found := load(root)
	for _, f := range found {
		faults = append(faults, f.error)
	}
	return p.Certificates(), faults
}

// A fault is an error about a file of trust.d. With isMask, the file removes a certificate,
// and the fault does not make Load fail.
type fault struct {
	error
	isMask bool
}

func load(root string) (p Policy, faults []fault) {
	addFault := func(err error) { faults = append(faults, fault{error: err}) }
	tree, err := unmerged.Open(root)
	if err != nil {
		err = errkind.Errorf(errkind.Precondition, "read trusted certificates: %w", err)
		if errors.Is(err, syscall.EPERM) {
			err = errkind.WithHint(err, "Extensions are merged over /usr or /etc, and only root can read the files below them: run the command as root.")
		}
		return p, []fault{{error: err}}
	}
	defer func() {
		if err := tree.Close(); err != nil {
			addFault(fmt.Errorf("read trusted certificates: %w", err))
		}
	}()
	fsys := inroot.FS(tree.Path())
	files, faults := listFiles(fsys)
	for _, file := range files {
		certs, err := readCertificates(fsys, file)
		if err != nil {
			hint := "Repair the file. An empty one of its name in /etc/trident/trust.d hides it."
			if h := errkind.Hint(err); h != "" {
				hint = h
			}
			addFault(errkind.WithHint(errkind.Errorf(errkind.Precondition, "read trusted certificate /%s: %w", file, err), "%s", hint))
			continue
		}
		for _, cert := range certs {
			p.add(trustedCert{cert, "/" + file})
		}
	}
	if len(p.certs) > maxCerts {
		addFault(errkind.Errorf(errkind.TooLarge, "read trusted certificates: %d certificates are more than %d", len(p.certs), maxCerts))
		p.certs = p.certs[:maxCerts]
	}
	return p, faults
}

// listFiles returns the files of certificates, without overridden and removed ones, sorted
// by name.
func listFiles(fsys inroot.FS) (files []string, faults []fault) {
	winners := map[string]string{} // "" for a mask
	for _, dir := range []string{adminDir, vendorDir} {
		names, err := fsys.List(dir)
		if err == nil {
			err = checkFolder(fsys, dir)
		}
		if err != nil {
			faults = append(faults, fault{error: errkind.Errorf(errkind.Precondition, "list trusted certificates in /%s: %w", dir, err)})
			continue
		}
		for _, name := range names {
			if _, known := winners[name]; known || !strings.HasSuffix(name, ".crt") {
				continue
			}
			file := path.Join(dir, name)
			mask, err := fsys.IsMask(file)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				faults = append(faults, fault{isMask: true, error: errkind.WithHint(
					errkind.Errorf(errkind.Precondition, "read trusted certificate /%s: the link points to a missing file, so no certificate of this name is trusted", file),
					"Repair or remove the link.")})
				mask = true
			case err != nil:
				faults = append(faults, fault{error: errkind.Errorf(errkind.Precondition, "read trusted certificate /%s: %w", file, err)})
				mask = true
			}
			winners[name] = file
			if mask {
				winners[name] = ""
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(winners)) {
		if winners[name] != "" {
			files = append(files, winners[name])
		}
	}
	return files, faults
}

// checkFolder fails if dir is a link to a missing folder, because the files of that folder
// could override others.
func checkFolder(fsys inroot.FS, dir string) error {
	if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range []string{path.Dir(dir), dir} {
		if _, err := fsys.Lstat(name); err != nil {
			return nil // the folder is optional
		}
		if _, err := fsys.Stat(name); err != nil {
			return errkind.Errorf(errkind.Precondition, "/%s is a link to a folder that does not exist", name)
		}
	}
	return nil
}

func readCertificates(fsys inroot.FS, file string) ([]*x509.Certificate, error) {
	data, err := fsys.ReadFile(file, maxFile)
	if err != nil {
		return nil, err
	}
	return parsePEM(data)
}

func (p *Policy) add(cert trustedCert) {
	if !slices.ContainsFunc(p.certs, func(o trustedCert) bool { return o.Equal(cert.Certificate) }) {
		p.certs = append(p.certs, cert)
	}
}

// parsePEM reads a file of certificates. Text around the blocks is allowed, but
// every block that begins or ends in the file must be whole.
func parsePEM(data []byte) ([]*x509.Certificate, error) {
	if err := checkBlocks(data); err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("its block %.40q is not a certificate", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs, data = append(certs, cert), rest
	}
	if len(certs) == 0 {
		err := errors.New("it does not contain a certificate in PEM form")
		if _, derErr := x509.ParseCertificate(data); derErr == nil {
			return nil, errkind.WithHint(err, "The file is in DER form. Convert the file: openssl x509 -inform der -in FILE -out FILE.crt")
		}
		return nil, err
	}
	return certs, nil
}

// checkBlocks fails if a block is cut off or damaged: pem.Decode skips such a
// block silently.
func checkBlocks(data []byte) error {
	whole := 0
	for rest := data; ; whole++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
	}
	begun, ended, last := 0, 0, ""
	for line := range strings.Lines(string(data)) {
		last = line
		switch {
		case strings.Contains(line, "-----BEGIN"):
			begun++
		case strings.Contains(line, "-----END"):
			ended++
		}
	}
	// The file may end within the line that begins or ends a block.
	if last != "" && (strings.HasPrefix("-----BEGIN", last) || strings.HasPrefix("-----END", last)) {
		begun++
	}
	if begun != whole || ended != whole {
		return fmt.Errorf("a block in it is cut off or damaged: of %d that begin and %d that end, %d can be read", begun, ended, whole)
	}
	return nil
}

// Certificates lists the trusted certificates, by file name.
func (p Policy) Certificates() []Certificate {
	var list []Certificate
	for _, c := range p.certs {
		list = append(list, Certificate{c.Subject.String(), c.fingerprint(), c.NotBefore, c.NotAfter, c.path})
	}
	return list
}

func (c trustedCert) fingerprint() string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func (c trustedCert) validAt(now time.Time) error {
	const hint = "The clock of this host says %s. Correct it if that is wrong; else have the image signed again with a valid certificate."
	switch at := now.UTC().Format(time.RFC3339); {
	case now.Before(c.NotBefore):
		return errkind.WithHint(errkind.Errorf(errkind.Untrusted, "the certificate %q is not valid before %s", c.Subject, c.NotBefore.UTC().Format(time.RFC3339)), hint, at)
	case now.After(c.NotAfter):
		return errkind.WithHint(errkind.Errorf(errkind.Untrusted, "the certificate %q was valid until %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339)), hint, at)
	}
	return nil
}
