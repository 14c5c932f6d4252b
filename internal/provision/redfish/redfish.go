// Package redfish boots a machine from a virtual CD through its management controller, by
// Redfish (DMTF DSP0266 1.15, schemas VirtualMedia and ComputerSystem of DSP8010).
package redfish

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	maxAnswer   = 1 << 20 // bytes
	requestTime = time.Minute
	powerTime   = 2 * time.Minute // until a machine is off
	pollPause   = time.Second
	maxMembers  = 64 // of a collection that are read
	maxManagers = 8  // of a system that are read
)

// Options say how to reach a controller.
type Options struct {
	URL            string // https://HOST, or http://HOST with Insecure
	User, Password string
	CA             []byte // the authorities of the controller, PEM; nil: those of this host
	Insecure       bool   // accept any certificate, and http
	System         string // the Id of the system, for a controller of several; "" for the only one
}

// Client calls one controller. It sends the password to no other host.
type Client struct {
	options Options
	base    *url.URL
	http    *http.Client
	pause   time.Duration // see pollPause
}

// New returns a client. It fails with Invalid for options that cannot be, and does not connect.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.URL)
	switch {
	case err != nil || (base.Scheme != "https" && base.Scheme != "http") || base.Host == "" || base.User != nil || base.RawQuery != "":
		return nil, errkind.Errorf(errkind.Invalid, "the URL of the Redfish service must be https://HOST, without a user and without parameters")
	case base.Scheme == "http" && !o.Insecure:
		return nil, errkind.WithHint(errkind.Errorf(errkind.Invalid, "the URL of the Redfish service is http, which would send the password in clear text"), "Use https, or say --redfish-insecure.")
	case o.User == "" || o.Password == "":
		return nil, errkind.Errorf(errkind.Invalid, "the Redfish service needs a user and a password")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.Insecure} //nolint:gosec // the user demands it
	if o.CA != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(o.CA) {
			return nil, errkind.Errorf(errkind.Invalid, "the authorities of the Redfish service have no certificate in PEM")
		}
	}
	transport := &http.Transport{TLSClientConfig: config, TLSHandshakeTimeout: 20 * time.Second, Proxy: nil}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{options: o, base: base, http: &http.Client{Transport: transport, Timeout: requestTime, CheckRedirect: refuse}, pause: pollPause}, nil
}

// Host returns the host:port of the controller.
func (c *Client) Host() string {
	port := cmp.Or(c.base.Port(), map[string]string{"https": "443", "http": "80"}[c.base.Scheme])
	return net.JoinHostPort(c.base.Hostname(), port)
}

// Check finds the system and its virtual CD, and changes nothing. It fails with Denied for a
// wrong user or password, with TLS for a certificate that is not trusted, and with Unsupported
// if the controller has no virtual CD.
func (c *Client) Check(ctx context.Context) error {
	s, err := c.system(ctx)
	if err == nil {
		_, err = c.cd(ctx, s)
	}
	return c.wrap("check the Redfish service", err)
}

func (c *Client) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s at %s: %w", doing, c.base.Host, err)
}
