package config

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/identity"
	"github.com/trident-project/trident/internal/gateway/rights"
	"github.com/trident-project/trident/internal/settingsfile"
)

// A Policy says which rights each identity has.
type Policy struct {
	grants     []grant
	serials    map[string]bool
	identities map[string]bool
}

type grant struct {
	pattern string
	set     rights.Set
}

// ParsePolicy reads the policy in the file and ignores the other settings, which another
// version of the gateway may have.
func ParsePolicy(text []byte) (*Policy, string, error) {
	var c Config
	keys := c.policyKeys()
	keys[settingsfile.Others] = settingsfile.Ignore
	if err := read(text, keys); err != nil {
		return nil, "", err
	}
	p, err := newPolicy(c.Rights, c.Revoked)
	return p, cmp.Or(c.Tokens, DefaultTokens), err
}

// Policy returns the policy of the file.
func (c *Config) Policy() *Policy {
	p, _ := newPolicy(c.Rights, c.Revoked) // Parse has checked it
	return p
}

func newPolicy(grants []Grant, revoked Revoked) (*Policy, error) {
	p := &Policy{serials: map[string]bool{}, identities: map[string]bool{}}
	for i, g := range grants {
		set, err := rights.Parse(g.Rights)
		if err != nil {
			return nil, fmt.Errorf("rights[%d].rights: %w", i, err)
		}
		if err := checkPattern(g.Identity); err != nil {
			return nil, fmt.Errorf("rights[%d].identity: %w", i, err)
		}
		p.grants = append(p.grants, grant{g.Identity, set})
	}
	for i, s := range revoked.Serials {
		n := normalSerial(s)
		if n == "" || strings.Trim(n, "0123456789abcdef") != "" {
			return nil, errkind.Errorf(errkind.Invalid, "revoked.serials[%d]: %q is not a number in hexadecimal digits", i, s)
		}
		p.serials[n] = true
	}
	for i, who := range revoked.Identities {
		if err := identity.Check(who); err != nil {
			return nil, errkind.With(errkind.Invalid, fmt.Errorf("revoked.identities[%d]: %q: %w", i, who, err))
		}
		p.identities[who] = true
	}
	return p, nil
}

// checkPattern fails unless pattern is an identity with at most one star, at an end of its
// name. A lone star would match every certificate of the authority, so it needs the kind.
func checkPattern(pattern string) error {
	kind, name, _ := strings.Cut(pattern, ":")
	plain := name
	if rest, ok := strings.CutPrefix(name, "*"); ok {
		plain = rest
	} else if rest, ok := strings.CutSuffix(name, "*"); ok {
		plain = rest
	}
	if name == "*" {
		plain = "any"
	}
	if err := identity.Check(kind + ":" + plain); err != nil {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "%q is not a pattern of identities", pattern),
			"write uri:, dns:, email:, token: or passphrase: and a name, which one star may begin or end, or console:root")
	}
	return nil
}

func normalSerial(s string) string {
	s = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(s), ":", ""))
	return cmp.Or(strings.TrimLeft(s, "0"), strings.Repeat("0", min(1, len(s))))
}

// Rights returns the rights of an identity: those of all patterns that match. A revoked
// identity has none.
func (p *Policy) Rights(who string) rights.Set {
	var set rights.Set
	if p.identities[who] {
		return set
	}
	for _, g := range p.grants {
		if matches(g.pattern, who) {
			set |= g.set
		}
	}
	return set
}

func matches(pattern, who string) bool {
	if pattern == who {
		return true
	}
	kind, name, _ := strings.Cut(pattern, ":")
	rest, ok := strings.CutPrefix(who, kind+":")
	if !ok {
		return false
	}
	if end, ok := strings.CutPrefix(name, "*"); ok {
		return strings.HasSuffix(rest, end)
	}
	begin, ok := strings.CutSuffix(name, "*")
	return ok && strings.HasPrefix(rest, begin)
}

// IsRevoked reports whether an identity, or the serial number of its certificate in
// hexadecimal digits, is revoked. A token has no serial number.
func (p *Policy) IsRevoked(who, serial string) bool {
	return p.identities[who] || serial != "" && p.serials[normalSerial(serial)]
}
