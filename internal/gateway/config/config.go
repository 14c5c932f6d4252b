// Package config reads /etc/trident/gateway.yaml, the settings of the gateway and the policy
// that says which remote identity has which rights.
//
// Root owns the file. The gateway reads all of it. tridentd reads the policy alone, so that
// a gateway that was taken over can do no more than the policy allows.
package config

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/identity"
	"github.com/trident-project/trident/internal/gateway/rights"
)

// The default places of the files.
const (
	DefaultFile   = "/etc/trident/gateway.yaml"
	DefaultListen = "127.0.0.1:7443"
	DefaultSocket = "/run/trident/gateway.sock"
	DefaultTokens = "/etc/trident/gateway/tokens.json"
	DefaultAudit  = "/var/log/trident-gateway/audit.log"
)

// A Config is the whole file.
type Config struct {
	// Listen has the addresses, host:port, on which the gateway listens.
	Listen []string `yaml:"listen"`
	// Socket is the socket of tridentd for gateways.
	Socket  string  `yaml:"socket"`
	TLS     TLS     `yaml:"tls"`
	Tokens  string  `yaml:"tokens"` // the file of tokens
	Rights  []Grant `yaml:"rights"`
	Revoked Revoked `yaml:"revoked"`
	Limits  Limits  `yaml:"limits"`
	Audit   Audit   `yaml:"audit"`
}

// TLS has the files of the gateway's certificate, and what identifies a caller.
type TLS struct {
	Certificate string          `yaml:"certificate"` // PEM: the certificate and its intermediates
	Key         string          `yaml:"key"`         // PEM
	ClientCA    string          `yaml:"clientCA"`    // PEM: the authorities of client certificates
	Identity    []identity.Kind `yaml:"identity"`    // the kinds of names that count, in order
}

// A Grant gives rights to the identities that match a pattern.
type Grant struct {
	// Identity is an identity, or one with a star as the first or the last character of
	// its name: uri:spiffe://example.org/ops/*, email:*@example.org.
	Identity string   `yaml:"identity"`
	Rights   []string `yaml:"rights"`
}

// Revoked has what is refused although it is valid.
type Revoked struct {
	Serials    []string `yaml:"serials"` // of certificates: hexadecimal digits, colons allowed
	Identities []string `yaml:"identities"`
}

// Limits bounds what callers use. A limit of one identity is that of all its connections
// together.
type Limits struct {
	Connections    int           `yaml:"connections"` // of all callers
	PerSource      int           `yaml:"perSource"`   // connections of one address that have not logged in
	PerIdentity    PerIdentity   `yaml:"perIdentity"`
	HandshakeTime  time.Duration `yaml:"handshakeTime"` // for the TLS handshake and the first call
	FailedLogins   int           `yaml:"failedLogins"`  // of one address, a minute, until its attempts are slowed
	KeepAliveEvery time.Duration `yaml:"keepAliveEvery"`
}

// PerIdentity bounds what one identity uses.
type PerIdentity struct {
	CallsPerSecond int   `yaml:"callsPerSecond"` // on average; twice as many at once
	Streams        int   `yaml:"streams"`        // running calls
	Connections    int   `yaml:"connections"`
	BytesPerSecond Bytes `yaml:"bytesPerSecond"` // in both directions; 0 is no bound
}

// Audit says where the audit log is, and how much of it is kept.
type Audit struct {
	File    string `yaml:"file"`
	MaxSize Bytes  `yaml:"maxSize"` // of one file
	Keep    int    `yaml:"keep"`    // older files
}

// Bytes is a number of bytes, written as in 16M.
type Bytes int64

// UnmarshalYAML reads a number of bytes with or without a unit.
func (b *Bytes) UnmarshalYAML(n *yaml.Node) error {
	v, err := bytesize.Parse(n.Value)
	if err != nil {
		return err
	}
	*b = Bytes(v)
	return nil
}

func defaults() Config {
	return Config{
		Listen: []string{DefaultListen}, Socket: DefaultSocket, Tokens: DefaultTokens,
		TLS: TLS{
			Certificate: "/etc/trident/gateway/server.crt", Key: "/etc/trident/gateway/server.key",
			ClientCA: "/etc/trident/gateway/ca.crt", Identity: identity.Kinds(),
		},
		Limits: Limits{
			Connections: 1100, PerSource: 16, HandshakeTime: 10 * time.Second, FailedLogins: 10, KeepAliveEvery: 30 * time.Second,
			PerIdentity: PerIdentity{CallsPerSecond: 100, Streams: 64, Connections: 16},
		},
		Audit: Audit{File: DefaultAudit, MaxSize: 16 << 20, Keep: 4},
	}
}

// Parse reads the whole file. An absent setting has its default. Errors are of kind Invalid
// and name the line and the setting.
func Parse(text []byte) (*Config, error) {
	c := defaults()
	if err := decode(text, &c, strict); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, errkind.With(errkind.Invalid, err)
	}
	return &c, nil
}

func (c *Config) check() error {
	if len(c.Listen) == 0 {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "listen has no address"), "leave the setting out to listen on %s", DefaultListen)
	}
	for i, address := range c.Listen {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return errkind.WithHint(fmt.Errorf("listen[%d]: %w", i, err), "write host:port: %s", DefaultListen)
		}
	}
	if len(c.TLS.Identity) == 0 {
		return errkind.Errorf(errkind.Invalid, "tls.identity is empty: no certificate would identify a caller")
	}
	for i, kind := range c.TLS.Identity {
		if !slices.Contains(identity.Kinds(), kind) {
			return errkind.WithHint(errkind.Errorf(errkind.Invalid, "tls.identity[%d]: unknown kind of name %q", i, kind), "the kinds are uri, dns, email")
		}
	}
	if _, err := newPolicy(c.Rights, c.Revoked); err != nil {
		return err
	}
	return c.checkNumbers()
}

func (c *Config) checkNumbers() error {
	l := c.Limits
	for _, n := range []struct {
		name             string
		value, low, high int64
	}{
		{"limits.connections", int64(l.Connections), 1, 20000},
		{"limits.perSource", int64(l.PerSource), 1, 20000},
		{"limits.failedLogins", int64(l.FailedLogins), 1, 1 << 20},
		{"limits.perIdentity.callsPerSecond", int64(l.PerIdentity.CallsPerSecond), 1, 1 << 20},
		{"limits.perIdentity.streams", int64(l.PerIdentity.Streams), 1, 1 << 20},
		{"limits.perIdentity.connections", int64(l.PerIdentity.Connections), 1, 1 << 20},
		{"limits.perIdentity.bytesPerSecond", int64(l.PerIdentity.BytesPerSecond), 0, 1 << 50},
		{"limits.handshakeTime, in milliseconds,", l.HandshakeTime.Milliseconds(), 100, 60_000},
		{"limits.keepAliveEvery, in seconds,", int64(l.KeepAliveEvery.Seconds()), 10, 3600},
		{"audit.maxSize", int64(c.Audit.MaxSize), 4096, 1 << 40},
		{"audit.keep", int64(c.Audit.Keep), 1, 1000},
	} {
		if n.value < n.low || n.value > n.high {
			return errkind.Errorf(errkind.Invalid, "%s is %d, it must be from %d to %d", n.name, n.value, n.low, n.high)
		}
	}
	return nil
}

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
	var c struct {
		Rights  []Grant `yaml:"rights"`
		Revoked Revoked `yaml:"revoked"`
		Tokens  string  `yaml:"tokens"`
	}
	if err := decode(text, &c, ignoreOthers); err != nil {
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
			"write uri:, dns:, email: or token: and a name; one star may begin or end the name")
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
