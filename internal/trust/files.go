package trust

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// LoadFiles reads a policy from files in PEM form, and from the *.crt files in folders. It
// is for a check of an image on a machine other than the host of the image.
func LoadFiles(paths ...string) (Policy, error) {
	var p Policy
	for _, path := range paths {
		files := []string{path}
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			files, err = filepath.Glob(filepath.Join(path, "*.crt"))
			if err == nil && len(files) == 0 {
				err = errkind.WithHint(errkind.Errorf(errkind.Invalid, "the folder %s has no file whose name ends in .crt", path),
					"Name the certificate itself, or give its file that ending.")
			}
		}
		if err != nil {
			return Policy{}, fmt.Errorf("read trusted certificates: %w", err)
		}
		for _, file := range files {
			if err := p.addFile(file); err != nil {
				return Policy{}, fmt.Errorf("read trusted certificate %s: %w", file, err)
			}
		}
	}
	if len(p.certs) > maxCerts {
		return Policy{}, errkind.Errorf(errkind.TooLarge, "read trusted certificates: %d certificates are more than %d", len(p.certs), maxCerts)
	}
	return p, nil
}

func (p *Policy) addFile(file string) error {
	data, err := regfile.ReadFile(file, maxFile)
	if err != nil {
		return err
	}
	certs, err := parsePEM(data)
	if err != nil {
		return errkind.With(errkind.Invalid, err)
	}
	for _, cert := range certs {
		p.add(trustedCert{cert, file})
	}
	return nil
}
