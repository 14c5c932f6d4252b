package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/identity"
)

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
		HTTP:  HTTP{LoginTime: time.Hour, Passphrases: DefaultPassphrases, Page: true},
	}
}

// Parse reads the whole file. An absent setting has its default. Errors are of kind Invalid
// and name the line and the setting.
func Parse(text []byte) (*Config, error) {
	c := defaults()
	if err := read(text, c.keys()); err != nil {
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
		if err := CheckAddress(address); err != nil {
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
	if err := c.HTTP.check(); err != nil {
		return err
	}
	return c.checkNumbers()
}

func (h *HTTP) check() error {
	for i, name := range h.Hosts {
		if name == "" || strings.ContainsAny(name, "/:*@ ") {
			return errkind.WithHint(errkind.Errorf(errkind.Invalid, "http.hosts[%d]: %.80q is not the name of a host", i, name), "write host1.example.org")
		}
	}
	for i, origin := range h.Origins {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || origin != "https://"+u.Host {
			return errkind.WithHint(errkind.Errorf(errkind.Invalid, "http.origins[%d]: %.80q is not an origin", i, origin), "write https://host or https://host:port")
		}
	}
	return nil
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
		{"limits.perIdentity.bytesPerSecond", l.PerIdentity.BytesPerSecond, 0, 1 << 50},
		{"limits.handshakeTime, in milliseconds,", l.HandshakeTime.Milliseconds(), 100, 60_000},
		{"limits.keepAliveEvery, in seconds,", int64(l.KeepAliveEvery.Seconds()), 10, 3600},
		{"http.loginTime, in seconds,", int64(c.HTTP.LoginTime.Seconds()), 60, 24 * 3600},
		{"audit.maxSize", c.Audit.MaxSize, 4096, 1 << 40},
		{"audit.keep", int64(c.Audit.Keep), 1, 1000},
	} {
		if n.value < n.low || n.value > n.high {
			return errkind.Errorf(errkind.Invalid, "%s is %d, it must be from %d to %d", n.name, n.value, n.low, n.high)
		}
	}
	return nil
}

// CheckAddress returns an error of kind Invalid if address is not a host and a port of TCP. The
// port is a number up to 65535 or the name of a service.
func CheckAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return errkind.With(errkind.Invalid, err)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return errkind.Errorf(errkind.Invalid, "address %s: %q is not a port from 0 to 65535 or the name of a service", address, port)
	}
	return nil
}
