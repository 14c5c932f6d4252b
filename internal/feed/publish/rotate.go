package publish

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/trident-project/trident/internal/errkind"
)

// RotateOptions say which keys are replaced.
type RotateOptions struct {
	// Roles are root, timestamp, snapshot, targets and channels; none makes a new root with the
	// same keys, so that it expires later.
	Roles []string
	// RootKeys are the new public root keys, if they are kept elsewhere. Without them, Rotate
	// makes a root key in the key folder if root is among the roles.
	RootKeys []ed25519.PublicKey
	// Threshold is how many of the new root keys have to sign; 0 keeps the number.
	Threshold int
	Validity  Validity
}

// Rotate makes new keys for roles. The next Publish uses them; it is complete for hosts that know
// any earlier root, because every root stays in the feed and is signed by the keys of the one
// before. The old private keys stay in the key folder for that Publish, and may be deleted after.
func (p *Publisher) Rotate(o RotateOptions) error {
	if err := p.rotate(o); err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	return nil
}

func (p *Publisher) rotate(o RotateOptions) error {
	if err := o.Validity.check(); err != nil {
		return err
	}
	before, pending, err := p.bothRoots()
	switch {
	case err != nil:
		return err
	case before == nil:
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "the first root is not signed"), "trident feed sign says what has to be signed.")
	case pending != nil:
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "root %d is not published", pending.Signed.Version),
			"Sign it (trident feed sign), then publish it (trident feed publish), or remove %s.", p.nextRoot())
	case before.Signed.Version >= maxRoots:
		return errkind.Errorf(errkind.TooLarge, "the feed has %d roots; hosts follow at most %d", before.Signed.Version, maxRoots)
	}
	next, err := parseRootCopy(before)
	if err != nil {
		return err
	}
	next.Signed.Version++
	roles := slices.Compact(slices.Sorted(slices.Values(o.Roles)))
	if err := p.checkRoles(roles); err != nil {
		return err
	}
	onlyChannels := len(roles) > 0
	for _, role := range roles {
		if _, isChannel := p.record.Channels[role]; isChannel {
			public, err := p.newKey(role)
			if err != nil {
				return err
			}
			p.record.Channels[role].Key = hex.EncodeToString(public)
			continue
		}
		onlyChannels = false
		if err := p.replaceKeys(next, role, o); err != nil {
			return err
		}
	}
	if err := p.save(); err != nil || onlyChannels {
		return err
	}
	return p.proposeRoot(before, next, o.Validity.Root)
}

func (p *Publisher) checkRoles(roles []string) error {
	for _, role := range roles {
		if _, isChannel := p.record.Channels[role]; !isChannel && !slices.Contains(metadata.TOP_LEVEL_ROLE_NAMES[:], role) {
			return errkind.Errorf(errkind.Invalid, "%q is not a role: root, timestamp, snapshot, targets, or a channel of %q", role, p.record.channels())
		}
	}
	return nil
}

// replaceKeys gives a role of the root new keys.
func (p *Publisher) replaceKeys(next *root, role string, o RotateOptions) error {
	keys := o.RootKeys
	if role != metadata.ROOT || len(keys) == 0 {
		public, err := p.newKey(role)
		if err != nil {
			return err
		}
		keys = []ed25519.PublicKey{public}
	}
	setKeys(next, role, keys)
	if role != metadata.ROOT {
		return nil
	}
	r := next.Signed.Roles[metadata.ROOT]
	if o.Threshold > 0 {
		r.Threshold = o.Threshold
	}
	if r.Threshold > len(r.KeyIDs) {
		return errkind.Errorf(errkind.Invalid, "the threshold of root, %d, is above the number of its keys, %d", r.Threshold, len(r.KeyIDs))
	}
	return nil
}

// parseRootCopy returns a copy of m without signatures.
func parseRootCopy(m *root) (*root, error) {
	data, err := m.ToBytes(false)
	if err != nil {
		return nil, fmt.Errorf("encode root: %w", err)
	}
	out, err := parseRoot(data)
	if err != nil {
		return nil, err
	}
	out.Signatures = []metadata.Signature{}
	return out, nil
}
