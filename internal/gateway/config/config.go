// Package config reads /etc/trident/gateway.yaml, the settings of the gateway and the policy
// that says which remote identity has which rights.
//
// Root owns the file. The gateway reads all of it. tridentd reads the policy alone, so that
// a gateway that was taken over can do no more than the policy allows.
package config

import (
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/gateway/identity"
)

// The default places of the files.
const (
	DefaultFile   = "/etc/trident/gateway.yaml"
	DefaultListen = "127.0.0.1:7443"
	DefaultSocket = "/run/trident/gateway.sock"
	DefaultTokens = "/etc/trident/gateway/tokens.json"
	DefaultAudit  = "/var/log/trident-gateway/audit.log"
	// DefaultPassphrases is the file of passphrases.
	DefaultPassphrases = "/etc/trident/gateway/passphrases.json"
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
	HTTP    HTTP    `yaml:"http"`
}

// HTTP has the settings for callers of JSON-RPC, and for the page in the browser.
type HTTP struct {
	// Hosts are names of the gateway in URLs besides its addresses, localhost, and the names in
	// its certificate.
	Hosts []string `yaml:"hosts"`
	// Origins are those of pages elsewhere that may call from a browser: https://host[:port].
	Origins []string `yaml:"origins"`
	// LoginTime is how long a login with a passphrase lasts.
	LoginTime   time.Duration `yaml:"loginTime"`
	Passphrases string        `yaml:"passphrases"` // the file of passphrases
	// Page: the gateway serves the page in the browser.
	Page bool `yaml:"page"`
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
