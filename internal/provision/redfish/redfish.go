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

// Boot turns the machine off, inserts the image at the URL, which the controller fetches, into
// its virtual CD, and turns the machine on, so that it boots once from the CD. After a failure
// the machine may be off.
func (c *Client) Boot(ctx context.Context, image string) error {
	return c.wrap("boot the machine by Redfish", c.boot(ctx, image))
}

func (c *Client) boot(ctx context.Context, image string) error {
	s, err := c.system(ctx)
	if err != nil {
		return err
	}
	cd, err := c.cd(ctx, s)
	if err != nil {
		return err
	}
	if err := c.turnOff(ctx, s); err != nil {
		return err
	}
	if cd.Inserted {
		if err := c.post(ctx, cd.Actions.Eject.Target, struct{}{}); err != nil {
			return fmt.Errorf("eject the previous medium: %w", err)
		}
	}
	if err := c.post(ctx, cd.Actions.Insert.Target, map[string]any{"Image": image, "Inserted": true, "WriteProtected": true}); err != nil {
		return fmt.Errorf("insert the live image: %w", err)
	}
	once := map[string]any{"Boot": map[string]string{
		"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Cd", "BootSourceOverrideMode": "UEFI",
	}}
	if s, err = c.systemAt(ctx, s.path); err != nil { // for its ETag
		return err
	}
	if err := c.send(ctx, http.MethodPatch, s.path, once, s.etag); err != nil {
		return fmt.Errorf("set the boot source: %w", err)
	}
	if err := c.post(ctx, s.Actions.Reset.Target, map[string]string{"ResetType": "On"}); err != nil {
		return fmt.Errorf("turn the machine on: %w", err)
	}
	return nil
}

// Eject takes the live image out of the virtual CD. It does nothing if there is none.
func (c *Client) Eject(ctx context.Context) error {
	s, err := c.system(ctx)
	if err != nil {
		return c.wrap("eject the live image", err)
	}
	cd, err := c.cd(ctx, s)
	if err == nil && cd.Inserted {
		err = c.post(ctx, cd.Actions.Eject.Target, struct{}{})
	}
	return c.wrap("eject the live image", err)
}

// turnOff turns the machine off and waits until it is.
func (c *Client) turnOff(ctx context.Context, s *system) error {
	if s.PowerState == "Off" {
		return nil
	}
	if err := c.post(ctx, s.Actions.Reset.Target, map[string]string{"ResetType": "ForceOff"}); err != nil {
		return fmt.Errorf("turn the machine off: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, powerTime, errkind.Errorf(errkind.Timeout, "the machine is not off after %s", powerTime))
	defer cancel()
	tick := time.NewTicker(c.pause)
	defer tick.Stop()
	for {
		now, err := c.systemAt(ctx, s.path)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil && now.PowerState == "Off" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("turn the machine off: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func (c *Client) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s at %s: %w", doing, c.base.Host, err)
}
