package publish

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// maxKey is the most bytes of a key file, and maxKeys the most keys of a folder.
const (
	maxKey  = 64 << 10
	maxKeys = 256
)

// A keyring is the private keys of a key folder, by the key ID of The Update Framework.
type keyring map[string]ed25519.PrivateKey

// readKeys reads every *.pem of a folder. Errors have no content of a file.
func readKeys(dir string) (keyring, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, err
	}
	if len(names) > maxKeys {
		return nil, errkind.Errorf(errkind.TooLarge, "read keys: %s has %d files *.pem, at most %d are permitted", dir, len(names), maxKeys)
	}
	ring := keyring{}
	for _, name := range names {
		key, err := ReadKey(name)
		if err != nil {
			return nil, err
		}
		ring.add(key)
	}
	return ring, nil
}

func (k keyring) add(key ed25519.PrivateKey) {
	k[keyOf(publicOf(key)).id] = key
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey {
	public, _ := key.Public().(ed25519.PublicKey)
	return public
}

// ReadKey reads a private ed25519 key in PEM (PKCS#8, RFC 8410), as openssl genpkey makes it. It
// refuses a file that other users can read.
func ReadKey(name string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "read key %s: other users can read it (mode %04o)", name, info.Mode().Perm()), "chmod 600 %s", name)
	}
	block, err := readPEM(name, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, wrongKey(name, "PRIVATE KEY")
	}
	return key, nil
}

// ReadPublicKey reads a public ed25519 key in PEM, as openssl pkey -pubout makes it.
func ReadPublicKey(name string) (ed25519.PublicKey, error) {
	block, err := readPEM(name, "PUBLIC KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(block)
	key, ok := parsed.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, wrongKey(name, "PUBLIC KEY")
	}
	return key, nil
}

func readPEM(name, kind string) ([]byte, error) {
	data, err := regfile.ReadFile(name, maxKey)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, wrongKey(name, kind)
	}
	return block.Bytes, nil
}

func wrongKey(name, kind string) error {
	hint := "Make one: openssl genpkey -algorithm ed25519 -out KEY"
	if kind == "PUBLIC KEY" {
		hint = "Take it out of the private key: openssl pkey -in KEY -pubout -out PUBLIC"
	}
	return errkind.WithHint(errkind.Errorf(errkind.Invalid, "read key %s: it is not an ed25519 key in a PEM block %q", name, kind), "%s", hint)
}

// newKey makes a key in the key folder, in NAME.pem or, if that exists, NAME-2.pem and so on.
func (p *Publisher) newKey(name string) (ed25519.PublicKey, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of %s: %w", name, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make key of %s: %w", name, err)
	}
	file := filepath.Join(p.keys, name+".pem")
	for n := 2; ; n++ {
		if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("make key of %s: %w", name, err)
		}
		file = filepath.Join(p.keys, fmt.Sprintf("%s-%d.pem", name, n))
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := p.write(file, fixed(text), 0o600); err != nil {
		return nil, err
	}
	p.ring.add(key)
	return public, nil
}

// A tufKey is a public key with its ID.
type tufKey struct {
	id  string
	key *metadata.Key
}

// keyOf returns the key of the metadata (TUF 1.0.31, 4.2). An ed25519 key always has one.
func keyOf(public ed25519.PublicKey) tufKey {
	k := &metadata.Key{
		Type: metadata.KeyTypeEd25519, Scheme: metadata.KeySchemeEd25519,
		Value: metadata.KeyVal{PublicKey: hex.EncodeToString(public)},
	}
	id, err := k.ID()
	if err != nil {
		panic(err) // four strings are always encoded
	}
	return tufKey{id, k}
}

func parsePublic(text string) (ed25519.PublicKey, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, errkind.Errorf(errkind.Corrupt, "%.80q is not a public ed25519 key", text)
	}
	return raw, nil
}

// pgpConfig makes signatures that depend on nothing but key, message and time.
func pgpConfig(now time.Time) *packet.Config {
	random := false
	return &packet.Config{
		Time: func() time.Time { return now }, Algorithm: packet.PubKeyAlgoEdDSA,
		NonDeterministicSignaturesViaNotation: &random,
	}
}

func (p *Publisher) pgpFile() string { return filepath.Join(p.keys, "openpgp.key") }

// newPGPKey makes the key of SHA256SUMS.gpg, and returns the public key for hosts.
func (p *Publisher) newPGPKey() ([]byte, error) {
	entity, err := openpgp.NewEntity("Trident update feed", "", "", pgpConfig(p.now))
	if err != nil {
		return nil, fmt.Errorf("make OpenPGP key: %w", err)
	}
	var private, public bytes.Buffer
	if err := errors.Join(entity.SerializePrivate(&private, pgpConfig(p.now)), entity.Serialize(&public)); err != nil {
		return nil, fmt.Errorf("make OpenPGP key: %w", err)
	}
	return public.Bytes(), p.write(p.pgpFile(), fixed(private.Bytes()), 0o600)
}

func (p *Publisher) pgpKey() (*openpgp.Entity, error) {
	data, err := regfile.ReadFile(p.pgpFile(), maxKey)
	if err != nil {
		return nil, fmt.Errorf("read OpenPGP key: %w", err)
	}
	list, err := openpgp.ReadKeyRing(bytes.NewReader(data))
	if err == nil && (len(list) != 1 || list[0].PrivateKey == nil || list[0].PrivateKey.Encrypted) {
		err = errors.New("it does not have exactly one private key without a passphrase")
	}
	if err != nil {
		return nil, errkind.Errorf(errkind.Invalid, "read OpenPGP key %s: %w", p.pgpFile(), err)
	}
	if made := list[0].PrimaryKey.CreationTime; p.now.Before(made) {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Invalid, "sign with OpenPGP key %s: it was made at %s, after the time of the signature, %s",
			p.pgpFile(), made.UTC().Format(time.RFC3339), p.now.Format(time.RFC3339)), "Give a later time with --time or SOURCE_DATE_EPOCH.")
	}
	return list[0], nil
}
