// Package config reads /etc/trident/gateway.yaml, the settings of the gateway and the policy
// that says which remote identity has which rights.
//
// Root owns the file. The gateway reads all of it. tridentd reads the policy alone, so that
// a gateway that was taken over can do no more than the policy allows.
package config

import (
	"time"

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
	Listen []string
	// Socket is the socket of tridentd for gateways.
	Socket  string
	TLS     TLS
	Tokens  string // the file of tokens
	Rights  []Grant
	Revoked Revoked
	Limits  Limits
	Audit   Audit
	HTTP    HTTP
}

// HTTP has the settings for callers of JSON-RPC, and for the page in the browser.
type HTTP struct {
	// Hosts are names of the gateway in URLs besides its addresses, localhost, and the names in
	// its certificate.
	Hosts []string
	// Origins are those of pages elsewhere that may call from a browser: https://host[:port].
	Origins []string
	// LoginTime is how long a login with a passphrase lasts.
	LoginTime   time.Duration
	Passphrases string // the file of passphrases
	// Page: the gateway serves the page in the browser.
	Page bool
}

// TLS has the files of the gateway's certificate, and what identifies a caller.
type TLS struct {
	Certificate string          // PEM: the certificate and its intermediates
	Key         string          // PEM
	ClientCA    string          // PEM: the authorities of client certificates
	Identity    []identity.Kind // the kinds of names that count, in order
}

// A Grant gives rights to the identities that match a pattern.
type Grant struct {
	// Identity is an identity, or one with a star as the first or the last character of
	// its name: uri:spiffe://example.org/ops/*, email:*@example.org.
	Identity string
	Rights   []string
}

// Revoked has what is refused although it is valid.
type Revoked struct {
	Serials    []string // of certificates: hexadecimal digits, colons allowed
	Identities []string
}

// Limits bounds what callers use. A limit of one identity is that of all its connections
// together.
type Limits struct {
	Connections    int // of all callers
	PerSource      int // connections of one address that have not logged in
	PerIdentity    PerIdentity
	HandshakeTime  time.Duration // for the TLS handshake and the first call
	FailedLogins   int           // of one address, a minute, until its attempts are slowed
	KeepAliveEvery time.Duration
}

// PerIdentity bounds what one identity uses.
type PerIdentity struct {
	CallsPerSecond int // on average; twice as many at once
	Streams        int // running calls
	Connections    int
	BytesPerSecond int64 // in both directions; 0 is no bound
}

// Audit says where the audit log is, and how much of it is kept.
type Audit struct {
	File    string
	MaxSize int64 // of one file
	Keep    int   // older files
}
