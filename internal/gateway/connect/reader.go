package connect

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/settingsfile"
)

// readPEM reads base64 of PEM. Its errors do not have the value, which may be a private key.
func readPEM(to *[]byte) func(settingsfile.Value) error {
	return settingsfile.Parsed(to, func(text string) ([]byte, error) {
		data, err := base64.StdEncoding.DecodeString(text)
		switch {
		case err != nil && strings.Contains(text, "-----BEGIN"):
			return nil, errors.New("is PEM, and must be base64 of PEM (base64 -w0 FILE)")
		case err != nil:
			return nil, errors.New("must be base64 of PEM")
		}
		return data, nil
	})
}

func parsePause(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 100*time.Millisecond || d > time.Hour {
		return 0, errors.New("must be a time from 100ms to 1h, such as 5s")
	}
	return d, nil
}

// parseMode parses a mode as upstream does: a number, so that 493 and 0755 are the same.
func parseMode(text string) (fs.FileMode, error) {
	number, err := strconv.ParseUint(text, 0, 32)
	switch {
	case err != nil:
		return 0, errors.New("must be a number such as 0755 (octal) or 493 (decimal)")
	case number > 0o777:
		return 0, fmt.Errorf("%d is more than 0777 (511): write an octal number with a leading 0", number)
	}
	return fs.FileMode(number), nil
}

func parseSize(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil || n < 1 {
		return 0, errors.New("must be a number of bytes above 0")
	}
	return n, nil
}

// readFiles reads the files to download, and adds a warning for each that nothing proves.
func readFiles(to *[]File, warnings *[]Warning) func(settingsfile.Value) error {
	return func(v settingsfile.Value) error {
		list, err := v.List()
		if err != nil || len(list) > maxFiles {
			return v.Errorf("must be a list of at most %d files", maxFiles)
		}
		for i, one := range list {
			f := File{Mode: 0o644, MaxBytes: maxFile}
			err := one.Read(settingsfile.Keys{
				"downloadUrl": settingsfile.Text(&f.URL), "destination": settingsfile.Text(&f.Destination), "sha256": settingsfile.Text(&f.SHA256),
				"mode":     settingsfile.Parsed(&f.Mode, parseMode),
				"maxBytes": settingsfile.Parsed(&f.MaxBytes, parseSize),
			})
			if err != nil {
				return err
			}
			isProven, err := f.check()
			if err != nil {
				return one.Errorf("%w", err)
			}
			if !isProven {
				*warnings = append(*warnings, Warning(fmt.Sprintf("additionalFiles[%d]: nothing proves that this file is the expected one: use https, or state its sha256", i)))
			}
			*to = append(*to, f)
		}
		return nil
	}
}

var hexSHA256 = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// check reports whether anything proves the content of the file. The error names the key.
func (f *File) check() (isProven bool, err error) {
	u, err := url.Parse(f.URL)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return false, errors.New("downloadUrl must be an http or https URL")
	case !filepath.IsAbs(f.Destination) || filepath.Clean(f.Destination) != f.Destination:
		return false, errors.New("destination must be an absolute path, without . and .. in it")
	case f.SHA256 != "" && !hexSHA256.MatchString(f.SHA256):
		return false, errors.New("sha256 must be 64 hexadecimal digits")
	}
	return u.Scheme == "https" || f.SHA256 != "", nil
}
