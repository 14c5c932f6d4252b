// Package redfish boots a machine from a virtual CD through its management controller, by
// Redfish (DMTF DSP0266 1.15, schemas VirtualMedia and ComputerSystem of DSP8010).
package redfish

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
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

// link is a reference to another resource.
type link struct {
	ID string `json:"@odata.id"`
}

type action struct {
	Target string `json:"target"`
}

// system is what the client reads of a ComputerSystem.
type system struct {
	ID           string `json:"Id"`
	PowerState   string
	VirtualMedia link
	Actions      struct {
		Reset action `json:"#ComputerSystem.Reset"`
	}
	Links struct{ ManagedBy []link }

	path, etag string
}

// media is what the client reads of a VirtualMedia.
type media struct {
	MediaTypes []string
	Inserted   bool
	Actions    struct {
		Insert action `json:"#VirtualMedia.InsertMedia"`
		Eject  action `json:"#VirtualMedia.EjectMedia"`
	}
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

// system finds the system to boot.
func (c *Client) system(ctx context.Context) (*system, error) {
	var root struct{ Systems link }
	if _, err := c.get(ctx, "/redfish/v1/", &root); err != nil {
		return nil, err
	}
	members, err := c.members(ctx, root.Systems.ID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range members {
		s, err := c.systemAt(ctx, m.ID)
		if err != nil {
			return nil, err
		}
		if s.ID == c.options.System || (c.options.System == "" && len(members) == 1) {
			return s, nil
		}
		ids = append(ids, s.ID)
	}
	err = errkind.Errorf(errkind.NotFound, "the service has %d systems, and none of them is %q", len(ids), c.options.System)
	if len(ids) > 0 {
		err = errkind.WithHint(err, "Choose one with --redfish-system: %s", strings.Join(ids, ", "))
	}
	return nil, err
}

func (c *Client) systemAt(ctx context.Context, path string) (*system, error) {
	s := &system{path: path}
	var err error
	s.etag, err = c.get(ctx, path, s)
	return s, err
}

// cd finds the virtual CD of a system: among its own media, or else those of its managers.
func (c *Client) cd(ctx context.Context, s *system) (*media, error) {
	var places []string
	if s.VirtualMedia.ID != "" {
		places = append(places, s.VirtualMedia.ID)
	}
	for _, m := range s.Links.ManagedBy[:min(len(s.Links.ManagedBy), maxManagers)] {
		var manager struct{ VirtualMedia link }
		if _, err := c.get(ctx, m.ID, &manager); err != nil {
			return nil, err
		}
		if manager.VirtualMedia.ID != "" {
			places = append(places, manager.VirtualMedia.ID)
		}
	}
	for _, place := range places {
		members, err := c.members(ctx, place)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			var one media
			if _, err := c.get(ctx, m.ID, &one); err != nil {
				return nil, err
			}
			isCD := slices.Contains(one.MediaTypes, "CD") || slices.Contains(one.MediaTypes, "DVD")
			if isCD && one.Actions.Insert.Target != "" {
				return &one, nil
			}
		}
	}
	return nil, errkind.Errorf(errkind.Unsupported, "the system %s has no virtual CD that takes an image (#VirtualMedia.InsertMedia)", s.ID)
}

func (c *Client) members(ctx context.Context, path string) ([]link, error) {
	var collection struct{ Members []link }
	if _, err := c.get(ctx, path, &collection); err != nil {
		return nil, err
	}
	return collection.Members[:min(len(collection.Members), maxMembers)], nil
}

// get reads a resource and returns its ETag.
func (c *Client) get(ctx context.Context, path string, to any) (etag string, err error) {
	header, body, err := c.do(ctx, http.MethodGet, path, nil, "")
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(body, to); err != nil {
		return "", errkind.Errorf(errkind.Incompatible, "read %s: the answer is not a resource of Redfish: %w", path, err)
	}
	return header.Get("ETag"), nil
}

func (c *Client) post(ctx context.Context, path string, body any) error {
	return c.send(ctx, http.MethodPost, path, body, "")
}

func (c *Client) send(ctx context.Context, method, path string, body any, etag string) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, _, err = c.do(ctx, method, path, text, etag)
	return err
}

// do makes one request. It refuses references to another host, and follows no redirection.
func (c *Client) do(ctx context.Context, method, path string, body []byte, etag string) (http.Header, []byte, error) {
	ref, err := url.Parse(path)
	if err != nil || path == "" || ref.Host != "" || ref.Scheme != "" || !strings.HasPrefix(ref.Path, "/") {
		return nil, nil, errkind.Errorf(errkind.Incompatible, "the service refers to %.200q, which is not a path on it", path)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.ResolveReference(ref).String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.SetBasicAuth(c.options.User, c.options.Password)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("OData-Version", "4.0")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if etag != "" {
		req.Header.Set("If-Match", etag)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, failed(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, nil, errkind.With(errkind.Unavailable, fmt.Errorf("%s %s: %w", method, path, err))
	case len(text) > maxAnswer:
		return nil, nil, errkind.Errorf(errkind.TooLarge, "%s %s: the answer has more than %d bytes", method, path, maxAnswer)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "%s %s: the service answers %q", method, path, resp.Status), "See --user and --password-file.")
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, nil, errkind.Errorf(errkind.Unavailable, "%s %s: the service answers %q%s", method, path, resp.Status, reason(text))
	}
	return resp.Header, text, nil
}

// failed returns the error of a request that got no answer.
func failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return errkind.WithHint(errkind.With(errkind.TLS, err), "Name the authority of the service with --redfish-ca.")
	}
	return errkind.With(errkind.Unavailable, err)
}

// reason returns the message of an error response (DSP0266, 8.6), with ": " before it.
func reason(body []byte) string {
	var answer struct {
		Error struct {
			Message  string                     `json:"message"`
			Extended []struct{ Message string } `json:"@Message.ExtendedInfo"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	text := answer.Error.Message
	if len(answer.Error.Extended) > 0 {
		text = cmp.Or(answer.Error.Extended[0].Message, text)
	}
	if text == "" {
		return ""
	}
	return fmt.Sprintf(": %.500s", text)
}

func (c *Client) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s at %s: %w", doing, c.base.Host, err)
}
