package seal

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/regfile"
)

const (
	// keyDir, below the root folder, has the recovery keys that Trident has made. It is in
	// memory: no disk ever has a key, and no copy of a disk, of a journal or of logs.
	keyDir = "run/trident/recovery"
	// maxKey is how many bytes a recovery key may have: as many as cryptsetup(8) reads of a
	// passphrase.
	maxKey = 512

	groups, groupBytes = 8, 4
)

// Keys finds the recovery keys of a host, and makes one where a configuration names none.
type Keys struct {
	Root  string // the root folder of the host
	Touch func(name string, change func() error) error
}

// Named returns the key in the file that storage.encryption.recoveryKeyUrl names. The file
// has the bytes of the key, also a line break at its end, and only its owner may use it.
func (k Keys) Named(fileURL string) (luks.Key, error) {
	key, err := k.named(fileURL)
	if err != nil {
		err = fmt.Errorf("read the recovery key (storage.encryption.recoveryKeyUrl): %w", err)
		return nil, errkind.WithName(err, errkind.NameReadRecoveryKeyFile)
	}
	return key, nil
}

func (k Keys) named(fileURL string) (luks.Key, error) {
	u, err := url.Parse(fileURL)
	if err != nil || u.Scheme != "file" || u.Host != "" || !filepath.IsAbs(u.Path) {
		return nil, errkind.Errorf(errkind.Invalid, "%q is not a file URL with an absolute path", fileURL)
	}
	name := filepath.Join(k.Root, u.Path)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errkind.With(errkind.NotFound, err)
	}
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		err := errkind.Errorf(errkind.Invalid, "%s has the mode %04o, so that others than its owner can use it", u.Path, mode)
		return nil, errkind.WithHint(err, "Run `chmod 600 %s`.", u.Path)
	}
	key, err := regfile.ReadFile(name, maxKey)
	if err == nil && len(key) == 0 {
		err = errkind.Errorf(errkind.Invalid, "%s is empty", u.Path)
	}
	return key, err
}

// Made returns the key that Trident has made for an operation, and makes it at the first call
// since the host has booted. A person can type it: it has eight groups of letters.
func (k Keys) Made(operation string) (luks.Key, error) {
	if key, err := k.Find(operation); errkind.Of(err) != errkind.NotFound {
		return key, err
	}
	key := newKey()
	err := k.Touch("make recovery key", func() error {
		if err := os.MkdirAll(filepath.Join(k.Root, keyDir), 0o700); err != nil {
			return err
		}
		return atomicfile.Write(k.file(operation), key, 0o600)
	})
	if err != nil {
		return nil, errkind.WithName(fmt.Errorf("make a recovery key: %w", err), errkind.NameGenerateRecoveryKeyFile)
	}
	return key, nil
}

func (k Keys) file(operation string) string { return filepath.Join(k.Root, File(operation)) }

// Find returns the key that Trident has made for an operation. The error is of kind NotFound if
// it has made none since the host has booted.
func (k Keys) Find(operation string) (luks.Key, error) {
	key, err := regfile.ReadFile(k.file(operation), maxKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errkind.Errorf(errkind.NotFound, "Trident has made no recovery key for this operation since the host has booted")
	}
	return key, err
}

// File returns the path, as the host sees it, of the file with the key of an operation.
func File(operation string) string { return "/" + keyDir + "/" + filepath.Base(operation) }

// newKey returns 256 random bits as letters that most keyboard layouts have in the same place.
func newKey() luks.Key {
	random := make([]byte, groups*groupBytes)
	_, _ = rand.Read(random) // never fails
	const from, to = "0123456789abcdef", "cbdefghijklnrtuv"
	letters := strings.Map(func(r rune) rune { return rune(to[strings.IndexRune(from, r)]) }, hex.EncodeToString(random))
	var out []string
	for ; letters != ""; letters = letters[2*groupBytes:] {
		out = append(out, letters[:2*groupBytes])
	}
	return luks.Key(strings.Join(out, "-"))
}
