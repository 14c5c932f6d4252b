package connect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
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

// Parse reads a configuration: YAML with upstream's keys and ours. An unknown key is a
// warning, because upstream ignores it; a value of the wrong form is an error of kind
// Invalid. Parse checks the certificates only if they are in data.
func Parse(data []byte) (Config, []Warning, error) {
	c := Config{Socket: DefaultSocket, MinPause: minPause, MaxPause: maxPause, TLS: Identity{ServerName: ServerName}}
	if len(data) > maxConfig {
		return c, nil, errkind.Errorf(errkind.TooLarge, "the file has more than %d bytes", maxConfig)
	}
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return c, nil, errkind.With(errkind.Invalid, fmt.Errorf("it is not YAML: %w", err))
	}
	r := &reader{}
	if len(doc.Content) > 0 {
		r.mapping("", doc.Content[0], c.fields(r))
	}
	r.check(&c)
	return c, r.warnings, r.err
}

// fields returns what to do with each key of the document.
func (c *Config) fields(r *reader) map[string]func(string, *yaml.Node) {
	return map[string]func(string, *yaml.Node){
		"clientAddress":   r.text(&c.ClientAddress),
		"serverAddress":   r.text(&c.Socket),
		"proxy":           r.text(&c.Proxy),
		"additionalFiles": r.files(&c.Files),
		"rcpClientTls": func(at string, n *yaml.Node) {
			t := &c.TLS
			r.mapping(at, n, map[string]func(string, *yaml.Node){
				"certData": r.pem(&t.Certificate), "keyData": r.pem(&t.Key), "serverCert": r.pem(&t.CA),
				"certFile": r.text(&t.CertificateFile), "keyFile": r.text(&t.KeyFile), "caFile": r.text(&t.CAFile),
				"serverName": r.text(&t.ServerName),
			})
		},
		"backoff": func(at string, n *yaml.Node) {
			r.mapping(at, n, map[string]func(string, *yaml.Node){"min": r.duration(&c.MinPause), "max": r.duration(&c.MaxPause)})
		},
	}
}

func (r *reader) files(to *[]File) func(string, *yaml.Node) {
	return func(at string, n *yaml.Node) {
		if n.Kind != yaml.SequenceNode || len(n.Content) > maxFiles {
			r.failf(at, n, "must be a list of at most %d files", maxFiles)
			return
		}
		for i, one := range n.Content {
			f := File{Mode: 0o644, MaxBytes: maxFile}
			here := fmt.Sprintf("%s[%d]", at, i)
			r.mapping(here, one, map[string]func(string, *yaml.Node){
				"downloadUrl": r.text(&f.URL), "destination": r.text(&f.Destination), "sha256": r.text(&f.SHA256),
				"mode":     r.mode(&f.Mode),
				"maxBytes": r.size(&f.MaxBytes),
			})
			r.checkFile(here, resolve(one), &f)
			*to = append(*to, f)
		}
	}
}

var hexSHA256 = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

func (r *reader) checkFile(at string, n *yaml.Node, f *File) {
	u, err := url.Parse(f.URL)
	switch {
	case r.err != nil:
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		r.failf(at+".downloadUrl", n, "must be an http or https URL")
	case !filepath.IsAbs(f.Destination) || filepath.Clean(f.Destination) != f.Destination:
		r.failf(at+".destination", n, "must be an absolute path without . and ..")
	case f.SHA256 != "" && !hexSHA256.MatchString(f.SHA256):
		r.failf(at+".sha256", n, "must be 64 hexadecimal digits")
	case u.Scheme == "http" && f.SHA256 == "":
		r.warnings = append(r.warnings, Warning(at+": nothing proves that this file is the expected one: use https, or state its sha256"))
	}
}

// check checks the document as a whole.
func (r *reader) check(c *Config) {
	if c.ClientAddress != "" {
		if _, port, err := net.SplitHostPort(c.ClientAddress); err != nil || port == "" {
			r.failf("clientAddress", nil, "%q must be host:port", shorten(c.ClientAddress))
		}
	}
	switch {
	case !filepath.IsAbs(c.Socket):
		r.failf("serverAddress", nil, "%q must be the absolute path of a unix socket", shorten(c.Socket))
	case len(c.Socket) > maxSocketPath:
		r.failf("serverAddress", nil, "the path has %d bytes, and that of a socket can have %d", len(c.Socket), maxSocketPath)
	case c.MaxPause < c.MinPause:
		r.failf("backoff.max", nil, "%s is less than backoff.min, %s", c.MaxPause, c.MinPause)
	}
	if _, err := parseProxy(c.Proxy); err != nil {
		r.failf("proxy", nil, "%v", err)
	}
	if c.ClientAddress != "" {
		r.checkIdentity(&c.TLS)
	}
}

func (r *reader) checkIdentity(t *Identity) {
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
			r.failf("rcpClientTls."+pair.key, nil, "is missing (or %s)", pair.other)
		case len(pair.data) > 0 && pair.file != "":
			r.failf("rcpClientTls."+pair.other, nil, "is there beside %s, and only one of them can be", pair.key)
		case pair.file != "" && !filepath.IsAbs(pair.file):
			r.failf("rcpClientTls."+pair.other, nil, "must be an absolute path")
		}
	}
	if r.err == nil && t.CertificateFile == "" && t.KeyFile == "" && t.CAFile == "" {
		if _, err := t.config(time.Now()); err != nil && errkind.Of(err) == errkind.Invalid {
			r.failf("rcpClientTls", nil, "%v", err)
		}
	}
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
