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

// Policy is a set of certificates. One without any refuses everything.
type Policy struct {
	certs []trustedCert
}

// trustedCert is a certificate that counts.
type trustedCert struct {
	*x509.Certificate
	path string
}

// Certificate is what is shown of one.
type Certificate struct {
	Subject     string
	Fingerprint string // SHA-256 of its DER form, in lower-case hex
	NotBefore   time.Time
	NotAfter    time.Time
	Path        string // of its file, as seen from the root folder
}

// Limits of a trust.d file, and of all together.
const (
	maxFile  = 64 << 10
	maxCerts = 256
)

// The folders of trusted certificates, the one that wins first.
const (
	adminDir  = "etc/trident/trust.d"
	vendorDir = "usr/lib/trident/trust.d"
)

// Load reads the certificates that are trusted on the host below root:
// /usr/lib/trident/trust.d is the vendor's, /etc/trident/trust.d the
// administrator's. A file in the latter stands in for one of its name in the
// former; an empty one, or a link to /dev/null or to nowhere, removes it. A file
// that holds anything but whole certificates is an error: guessing what was meant
// would be worse than not starting.
//
// Both folders are read below the extensions that systemd has merged over /usr and
// /etc: no extension can add, replace or hide a certificate.
func Load(root string) (Policy, error) {
	p, faults := load(root)
	for _, f := range faults {
		if !f.isMask {
			return Policy{}, f.error
		}
	}
	return p, nil
}

// Survey returns the certificates that Load would trust, and what is wrong with
// the others, for a person to see. Where there are faults, Load may refuse to
// trust anything at all.
func Survey(root string) (trusted []Certificate, faults []error) {
	p, found := load(root)
	for _, f := range found {
		faults = append(faults, f.error)
	}
	return p.Certificates(), faults
}

// fault is what is wrong with a file of trust.d. One that masks takes a
// certificate away and leaves no doubt about the others.
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
		addFault(errkind.Errorf(errkind.TooLarge, "read trusted certificates: there are %d, more than %d", len(p.certs), maxCerts))
		p.certs = p.certs[:maxCerts]
	}
	return p, faults
}

// listFiles returns the files that count, sorted by name.
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
					errkind.Errorf(errkind.Precondition, "read trusted certificate /%s: it is a link to a file that does not exist, so no certificate of this name is trusted", file),
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

// checkFolder refuses a link to nowhere in place of a folder: what it would have
// removed from the other folder is not known.
func checkFolder(fsys inroot.FS, dir string) error {
	if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range []string{path.Dir(dir), dir} {
		if _, err := fsys.Lstat(name); err != nil {
			return nil // absent, as it may be
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

// parsePEM reads a file of certificates. Words around them are usual, but every
// block that begins or ends in the file must be whole.
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
			return nil, fmt.Errorf("it holds a %.40q, which is not a certificate", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs, data = append(certs, cert), rest
	}
	if len(certs) == 0 {
		err := errors.New("it has no certificate in PEM form")
		if _, derErr := x509.ParseCertificate(data); derErr == nil {
			return nil, errkind.WithHint(err, "It is in DER form. Convert it: openssl x509 -inform der -in FILE -out FILE.crt")
		}
		return nil, err
	}
	return certs, nil
}

// checkBlocks finds a block that is cut off or damaged, which pem.Decode passes
// over in silence.
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

// Certificates lists what is trusted, by file name.
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
