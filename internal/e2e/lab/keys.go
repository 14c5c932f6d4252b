package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// The files of the folder of keys. A base image has the first two as well.
const (
	clientKey   = "client_key"
	hostKey     = "host_key.pub"
	hostPrivate = "host_key"
	clientKnown = "client_key.pub"
)

const keysName = "keys" // in the cache

// keys returns the folder with the keys by which guests and this machine authenticate each
// other. All images of this machine have the same keys, so that a guest keeps its identity
// whichever system it boots.
func keys(ctx context.Context) (string, error) {
	dir, err := once(ctx, keysName, func(dir string) error {
		for private, public := range map[string]string{clientKey: clientKnown, hostPrivate: hostKey} {
			known, secret, err := newKey()
			if err != nil {
				return err
			}
			for name, data := range map[string][]byte{public: known, private: secret} {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("make the guests' keys: %w", err)
	}
	return dir, nil
}

// installKeys copies the keys of the folder known into a tree, and the keys for reaching a
// guest into the folder dir.
func installKeys(known, tree, dir string) error {
	if err := os.MkdirAll(filepath.Join(tree, "root/.ssh"), 0o700); err != nil {
		return err
	}
	for name, path := range map[string]string{
		hostPrivate: filepath.Join(tree, "etc/ssh/ssh_host_ed25519_key"),
		clientKnown: filepath.Join(tree, "root/.ssh/authorized_keys"),
		hostKey:     filepath.Join(dir, hostKey),
		clientKey:   filepath.Join(dir, clientKey),
	} {
		data, err := os.ReadFile(filepath.Join(known, name))
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("install the guest's keys: %w", err)
		}
	}
	return nil
}

func newKey() (public, private []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return nil, nil, err
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	return ssh.MarshalAuthorizedKey(sshPub), pem.EncodeToMemory(block), nil
}
