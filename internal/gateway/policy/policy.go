// Package policy reads the policy of the gateway for tridentd: which remote identity may do
// what on this host.
//
// The policy is what root has written: the grants in /etc/trident/gateway.yaml and the
// rights of the tokens. tridentd refuses files that anybody but root could have written,
// above all the gateway, which the policy is to bound. Without the file nobody has a right.
package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/gateway/identity"
	"github.com/trident-project/trident/internal/gateway/token"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// A Source reads the policy of the host below a root folder, and again after each change of
// its files. Its methods may be called concurrently.
type Source struct {
	root  string
	owner uint32

	mu     sync.Mutex
	stamps []regfile.Stamp
	policy *config.Policy
	tokens *token.List
	err    error
}

// NewSource returns the source for the host below root. owner is the user who has to own
// the files: 0 on a host.
func NewSource(root string, owner uint32) *Source { return &Source{root: root, owner: owner} }

// IsInstalled reports whether the host has a policy, which may be unreadable.
func (s *Source) IsInstalled() bool {
	_, err := os.Lstat(filepath.Join(s.root, config.DefaultFile))
	return err == nil
}

// Allow returns nil if an identity may call a method now. The error is of kind Denied; that
// for a policy that cannot be used says why.
func (s *Source) Allow(who, method string, now time.Time) error {
	if err := identity.Check(who); err != nil {
		return err
	}
	policy, tokens, err := s.current()
	if err != nil {
		return errkind.WithHint(errkind.With(errkind.Denied, fmt.Errorf("call a method for %s: %w", who, err)),
			"correct /etc/trident/gateway.yaml on the host; trident-gateway check says what is wrong with it")
	}
	if policy.IsRevoked(who, "") {
		return errkind.Errorf(errkind.Denied, "call a method for %s: this identity is revoked", who)
	}
	set, err := tokens.Rights(who, policy.Rights(who), now)
	if err != nil {
		return fmt.Errorf("call a method for %s: %w", who, err)
	}
	return set.Check(who, method)
}

// current returns the policy as the files have it now.
func (s *Source) current() (*config.Policy, *token.List, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.stamps) > 0 && !slices.ContainsFunc(s.stamps, regfile.Stamp.HasChanged) {
		return s.policy, s.tokens, s.err
	}
	s.policy, s.tokens, s.err = s.read()
	return s.policy, s.tokens, s.err
}
