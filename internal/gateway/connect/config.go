package connect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/settingsfile"
)

// The files that the agent reads without --config: the first that exists. The second one is
// upstream's, whose keys are a part of ours.
const (
	OwnConfig      = "/etc/trident/connect.yaml"
	UpstreamConfig = "/etc/rcp-agent/config.yaml"
)

// DefaultSocket is the socket to which the agent passes connections without serverAddress.
const DefaultSocket = "/run/trident/trident.sock"

// ServerName is the name that upstream's listener has in its certificate.
const ServerName = "reverseconnectproxy"

const (
	maxConfig     = 1 << 20   // bytes
	maxFiles      = 64        // additionalFiles
	maxFile       = 512 << 20 // bytes of a file without maxBytes
	maxSocketPath = 107       // bytes, see unix(7)
	minPause      = time.Second
	maxPause      = 25 * time.Second // so that all hosts are back 30 s after a listener
)

// Config is the configuration of the agent.
type Config struct {
	ClientAddress string // host:port of the listener; "" has the agent only download Files and start the installation
	Socket        string // of tridentd
	Files         []File
	TLS           Identity
	// Proxy is the URL of an HTTP proxy, "none", or "" for that of the environment
	// (HTTPS_PROXY, NO_PROXY).
	Proxy string
	// MinPause and MaxPause are the first and the longest pause between failed attempts to
	// connect.
	MinPause, MaxPause time.Duration
}

// File is a file to download before the first connection.
type File struct {
	URL         string
	Destination string
	Mode        fs.FileMode
	SHA256      string // hexadecimal; "" is not checked
	MaxBytes    int64
}

// Identity has the certificates of both ends: PEM in the configuration, or files, which the
// agent reads again for each connection.
type Identity struct {
	Certificate, Key, CA             []byte
	CertificateFile, KeyFile, CAFile string
	ServerName                       string
}

// A Warning is a fault of a configuration with which the agent can work.
type Warning string

// Find returns the path of the configuration to read: named, or the first of [OwnConfig]
// and [UpstreamConfig] that exists below root. It fails with NotFound if there is neither.
func Find(root, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	for _, path := range []string{OwnConfig, UpstreamConfig} {
		at := filepath.Join(root, path)
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
			return at, nil
		}
	}
	return "", errkind.WithHint(errkind.Errorf(errkind.NotFound, "read the configuration of the agent: neither %s nor %s exists", OwnConfig, UpstreamConfig),
		"Write %s (see trident-gateway connect --help), or name another file with --config.", OwnConfig)
}

// Read reads the configuration at path. It follows links, as upstream's live image needs.
// The error of a malformed configuration names the key and the line; it has no value of a
// key that may be secret.
func Read(path string) (Config, []Warning, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, nil, fmt.Errorf("read the configuration of the agent: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return Config{}, nil, fmt.Errorf("read the configuration of the agent: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Config{}, nil, errkind.Errorf(errkind.Invalid, "read the configuration of the agent: %s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return Config{}, nil, fmt.Errorf("read the configuration of the agent: %w", err)
	}
	c, warnings, err := Parse(data)
	if err != nil {
		return Config{}, nil, fmt.Errorf("read the configuration of the agent %s: %w", path, err)
	}
	if len(c.TLS.Key) > 0 && info.Mode().Perm()&0o077 != 0 {
		warnings = append(warnings, Warning(fmt.Sprintf("%s has a private key, and other users may read it (mode %04o)", path, info.Mode().Perm())))
	}
	return c, warnings, nil
}

// Parse reads a configuration: one YAML document with upstream's keys and ours. An unknown
// key is a warning, because upstream ignores it; a value of the wrong form is an error of kind
// Invalid. Parse checks the certificates only if they are in data.
func Parse(data []byte) (Config, []Warning, error) {
	c := Config{Socket: DefaultSocket, MinPause: minPause, MaxPause: maxPause, TLS: Identity{ServerName: ServerName}}
	var warnings []Warning
	doc, err := settingsfile.Parse(data, settingsfile.Format{MaxBytes: maxConfig, Foreign: func(fault error) {
		warnings = append(warnings, unknownKey(fault))
	}})
	if err == nil {
		err = doc.Read(c.keys(&warnings))
	}
	if err == nil {
		err = c.check()
	}
	return c, warnings, err
}

func unknownKey(fault error) Warning {
	text := fault.Error() + ", and is ignored"
	if hint := errkind.Hint(fault); hint != "" {
		text += ": " + hint
	}
	return Warning(text)
}

// keys returns what reads each key of the document into c.
func (c *Config) keys(warnings *[]Warning) settingsfile.Keys {
	t := &c.TLS
	return settingsfile.Keys{
		"clientAddress":   settingsfile.Text(&c.ClientAddress),
		"serverAddress":   settingsfile.Text(&c.Socket),
		"proxy":           settingsfile.Text(&c.Proxy),
		"additionalFiles": readFiles(&c.Files, warnings),
		"rcpClientTls": settingsfile.Mapping(settingsfile.Keys{
			"certData": readPEM(&t.Certificate), "keyData": readPEM(&t.Key), "serverCert": readPEM(&t.CA),
			"certFile": settingsfile.Text(&t.CertificateFile), "keyFile": settingsfile.Text(&t.KeyFile), "caFile": settingsfile.Text(&t.CAFile),
			"serverName": settingsfile.Text(&t.ServerName),
		}),
		"backoff": settingsfile.Mapping(settingsfile.Keys{
			"min": settingsfile.Parsed(&c.MinPause, parsePause),
			"max": settingsfile.Parsed(&c.MaxPause, parsePause),
		}),
	}
}

// check checks the document as a whole.
func (c *Config) check() error {
	if c.ClientAddress != "" {
		if _, port, err := net.SplitHostPort(c.ClientAddress); err != nil || port == "" {
			return faultf("clientAddress", "%.80q must be host:port", c.ClientAddress)
		}
	}
	switch {
	case !filepath.IsAbs(c.Socket):
		return faultf("serverAddress", "%.80q must be the absolute path of a unix socket", c.Socket)
	case len(c.Socket) > maxSocketPath:
		return faultf("serverAddress", "the path has %d bytes, and that of a socket can have %d", len(c.Socket), maxSocketPath)
	case c.MaxPause < c.MinPause:
		return faultf("backoff.max", "%s is less than backoff.min, %s", c.MaxPause, c.MinPause)
	}
	if _, err := parseProxy(c.Proxy); err != nil {
		return faultf("proxy", "%w", err)
	}
	if c.ClientAddress != "" {
		return c.TLS.check()
	}
	return nil
}

// faultf returns a fault that is not of one line.
func faultf(at, format string, args ...any) error {
	return errkind.Errorf(errkind.Invalid, "%s: %w", at, fmt.Errorf(format, args...))
}

func (t *Identity) check() error {
	for _, pair := range []struct {
		data       []byte
		file       string
		key, other string
	}{
		{t.Certificate, t.CertificateFile, "certData", "certFile"},
		{t.Key, t.KeyFile, "keyData", "keyFile"},
		{t.CA, t.CAFile, "serverCert", "caFile"},
	} {
		switch {
		case len(pair.data) == 0 && pair.file == "":
			return faultf("rcpClientTls."+pair.key, "is missing (or %s)", pair.other)
		case len(pair.data) > 0 && pair.file != "":
			return faultf("rcpClientTls."+pair.other, "is there beside %s, and only one of them can be", pair.key)
		case pair.file != "" && !filepath.IsAbs(pair.file):
			return faultf("rcpClientTls."+pair.other, "must be an absolute path")
		}
	}
	if t.CertificateFile == "" && t.KeyFile == "" && t.CAFile == "" {
		if _, err := t.config(time.Now()); err != nil && errkind.Of(err) == errkind.Invalid {
			return faultf("rcpClientTls", "%w", err)
		}
	}
	return nil
}

// parseProxy returns the URL of a proxy; nil for "" and "none".
func parseProxy(text string) (*url.URL, error) {
	if text == "" || text == "none" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, errors.New("must be the URL of an HTTP proxy, such as http://proxy.example:3128, or none")
	}
	return u, nil
}
