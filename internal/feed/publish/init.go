package publish

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
)

// InitOptions say what a new feed has.
type InitOptions struct {
	// Channels are the first channels.
	Channels []string
	// RootKeys are the public root keys, if they are kept elsewhere; none means that Init makes
	// one in the key folder.
	RootKeys []ed25519.PublicKey
	// Threshold is how many root keys have to sign a root.
	Threshold int
	Validity  Validity
	Now       time.Time
}

// Init makes a new feed in the folder dir and its keys in the folder keys. Both must be empty or
// not exist. With root keys that are kept elsewhere, the first root waits for signatures.
func Init(dir, keys string, o InitOptions) (p *Publisher, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := apart(dir, keys); err != nil {
		return nil, err
	}
	for _, folder := range []string{dir, keys} {
		if entries, err := os.ReadDir(folder); err == nil && len(entries) > 0 {
			return nil, errkind.WithHint(errkind.Errorf(errkind.Exists, "make a feed: the folder %s is not empty", folder), "Name new folders, or empty ones.")
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("make a feed: %w", err)
		}
	}
	for folder, mode := range map[string]os.FileMode{dir: 0o755, keys: 0o700, filepath.Join(keys, "roots"): 0o700, filepath.Join(keys, "for-hosts"): 0o755} {
		if err := os.MkdirAll(folder, mode); err != nil {
			return nil, fmt.Errorf("make a feed: %w", err)
		}
	}
	if err := os.Chmod(keys, 0o700); err != nil { //nolint:gosec // a folder needs x
		return nil, fmt.Errorf("make a feed: %w", err)
	}
	if p, err = open(dir, keys, o.Now); err != nil {
		return nil, err
	}
	p.record, p.ring = newRecord(), keyring{}
	if err := p.init(o); err != nil {
		return nil, errors.Join(fmt.Errorf("make a feed: %w", err), p.Close())
	}
	return p, nil
}

func (o *InitOptions) check() error {
	for i, c := range o.Channels {
		if err := feed.CheckChannel(c); err != nil {
			return err
		}
		if slices.Contains(o.Channels[:i], c) {
			return errkind.Errorf(errkind.Invalid, "make a feed: channel %s is named twice", c)
		}
	}
	if len(o.Channels) == 0 {
		return errkind.Errorf(errkind.Invalid, "make a feed: no channel is named")
	}
	if n := max(len(o.RootKeys), 1); o.Threshold < 1 || o.Threshold > n {
		return errkind.Errorf(errkind.Invalid, "make a feed: the threshold %d is not between 1 and the number of root keys, %d", o.Threshold, n)
	}
	return o.Validity.check()
}

// init makes the keys, then the record, then the root, so that Open fails until it is done.
func (p *Publisher) init(o InitOptions) error {
	keys := map[string][]ed25519.PublicKey{metadata.ROOT: o.RootKeys}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		if role == metadata.ROOT && len(o.RootKeys) > 0 {
			continue
		}
		public, err := p.newKey(role)
		if err != nil {
			return err
		}
		keys[role] = []ed25519.PublicKey{public}
	}
	for _, name := range o.Channels {
		if err := p.newChannel(name); err != nil {
			return err
		}
	}
	pubring, err := p.newPGPKey()
	if err != nil {
		return err
	}
	if err := p.write(p.hostsPubring(), fixed(pubring), 0o644); err != nil {
		return err
	}
	if err := p.proposeRoot(nil, newRoot(keys, o.Threshold), o.Validity.Root); err != nil {
		return err
	}
	return p.save()
}

// maxChannels is the most channels of a feed.
const maxChannels = 32

// newChannel adds a channel and its key to the record.
func (p *Publisher) newChannel(name string) error {
	if err := feed.CheckChannel(name); err != nil {
		return err
	}
	if len(p.record.Channels) >= maxChannels {
		return errkind.Errorf(errkind.TooLarge, "make channel %s: a feed has at most %d channels", name, maxChannels)
	}
	public, err := p.newKey(name)
	if err != nil {
		return err
	}
	p.record.Channels[name] = &channel{Key: hex.EncodeToString(public), Images: map[string]*Image{}}
	return nil
}
