package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/trident-project/trident/internal/errkind"
)

const maxToken = 64 << 10 // bytes of an answer of a token service

// send sends a request to the registry. auth.Client answers the challenge of the registry:
// with user and password, or with a token of the token service, which it requests
// anonymously if there are no credentials, and keeps. All its requests pass the RoundTripper
// guard.
func (g *registry) send(ctx context.Context, to *url.URL, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header = header.Clone()
	client := auth.Client{
		Client: &http.Client{Transport: guard{g, to}}, Cache: g.tokens, Credential: g.credential, ClientID: "trident",
		BlockedRealmPrefixes: []netip.Prefix{}, // a private registry has a private token service
	}
	resp, err := client.Do(req)
	own, isOwn := errors.AsType[ownError](err)
	switch {
	case isOwn:
		return nil, own.error // without the texts of net/http and auth.Client, which have URLs with their queries
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return nil, g.loginError(g.refused())
	case err != nil:
		return nil, g.loginError(errkind.Errorf(errkind.Denied, "%.500v", err))
	case resp.StatusCode == http.StatusUnauthorized:
		_ = resp.Body.Close()
		return nil, g.loginError(g.refused())
	}
	return resp, nil
}

// credential is the CredentialFunc of auth.Client.
func (g *registry) credential(ctx context.Context, _ string) (auth.Credential, error) {
	if g.login == nil {
		return auth.EmptyCredential, nil
	}
	c, err := g.login(ctx, g.base.Host)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.given, g.noHelper = c != auth.EmptyCredential, nil
	if errkind.Of(err) == errkind.Precondition { // many registries serve strangers too
		g.noHelper, err = err, nil
	}
	if err != nil {
		err = ownError{g.loginError(err)}
	}
	return c, err
}

// refused returns the error for a registry that does not accept the available credentials.
func (g *registry) refused() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.given:
		err := errkind.Errorf(errkind.Denied, "the registry does not accept the given credentials")
		return errkind.WithHint(err, "Check user name and password, and whether that user may pull this repository.")
	case g.noHelper != nil:
		return errkind.With(errkind.Denied, fmt.Errorf("the registry demands credentials: %w", g.noHelper))
	}
	err := errkind.Errorf(errkind.Denied, "the registry demands credentials, and Trident has none for this registry")
	return errkind.WithHint(err, "Give the registry's credentials: in /etc/trident/registry-auth.json, or with --auth-file. Or let the registry serve anonymous pulls.")
}

func (g *registry) loginError(err error) error {
	return fmt.Errorf("log in to %s: %w", g.base.Host, err)
}

// ownError is an error of this package on its way through auth.Client.
type ownError struct{ error }

func (e ownError) Unwrap() error { return e.error }

// guard is the transport below auth.Client for one request to the registry, and for the
// request to the token service that may follow. It follows redirects itself (see [get]).
type guard struct {
	*registry
	target *url.URL // of the request to the registry
}

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.String() == g.target.String() {
		resp, err := g.pull(req)
		if err != nil {
			return nil, ownError{err}
		}
		return resp, nil
	}
	resp, err := g.token(req)
	if err != nil {
		return nil, ownError{g.loginError(err)}
	}
	return resp, nil
}

// pull sends the request to the registry. A 401 of a host to which the registry redirects is
// an error, because the challenge of that host could direct the registry's password to a
// realm of its own (as in CVE-2020-15157).
func (g guard) pull(req *http.Request) (*http.Response, error) {
	if _, token, _ := strings.Cut(req.Header.Get("Authorization"), " "); strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, g.loginError(errkind.Errorf(errkind.Denied, "the token for the registry has characters that a token must not have"))
	}
	resp, err := get(req.Context(), g.transport, req.URL, req.Header)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.answered = true
	g.mu.Unlock()
	if resp.StatusCode != http.StatusUnauthorized {
		return resp, nil
	}
	if changedOrigin(resp) {
		_ = resp.Body.Close()
		return nil, errkind.WithHint(statusError(resp), "Credentials go to %s only. If that host is the registry, name it in the URL.", g.base.Host)
	}
	// auth.Client reads the first challenge only.
	challenges := resp.Header.Values("WWW-Authenticate")
	if i := slices.IndexFunc(challenges, isBearer); i > 0 {
		resp.Header.Set("WWW-Authenticate", challenges[i])
	}
	return resp, nil
}

func isBearer(challenge string) bool {
	scheme, _, _ := strings.Cut(challenge, " ")
	return strings.EqualFold(scheme, "Bearer")
}

// token sends a request to the token service that the registry named in its challenge, and
// reads the answer.
func (g guard) token(req *http.Request) (*http.Response, error) {
	hasSecret := req.Header.Get("Authorization") != "" || req.Method != http.MethodGet // else it has an identity token in its body
	if err := g.checkRealm(req.URL, hasSecret); err != nil {
		return nil, err
	}
	resp, err := requestToken(g.transport, req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusUnauthorized && !changedOrigin(resp):
		return nil, g.refused()
	case resp.StatusCode != http.StatusOK:
		return nil, statusError(resp)
	}
	data, err := readAll(resp.Body, maxToken)
	g.meter.settle(0, len(data))
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, nil
}

// requestToken sends req. It follows redirects only of a GET request: any other has a secret
// in its body.
func requestToken(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodGet {
		return get(req.Context(), transport, req.URL, req.Header)
	}
	resp, err := roundTrip(transport, req.Clone(req.Context()))
	if err == nil && redirects(resp.StatusCode) {
		_ = resp.Body.Close()
		return nil, errkind.Errorf(errkind.Denied, "its token service %.100q redirects a request with an identity token", redact(req.URL))
	}
	return resp, err
}

// checkRealm checks the URL of the token service. A registry with TLS may name any https
// URL. A registry without TLS, which is on this machine, may name another host only if the
// request has no credentials (hasSecret is false).
func (g *registry) checkRealm(u *url.URL, hasSecret bool) error {
	base := g.url("")
	switch {
	case u.User != nil:
		return errkind.Errorf(errkind.Denied, "its token service %.100q has a user name or a password in its URL", redact(u))
	case len(u.String()) > maxURL || u.Hostname() == "" || u.Scheme != "https" && (u.Scheme != "http" || base.Scheme == "https"):
		return errkind.Errorf(errkind.Denied, "its token service %.100q is not an https URL", redact(u))
	case base.Scheme == "http" && hasSecret && originOf(u) != originOf(base):
		err := errkind.Errorf(errkind.Denied, "its token service %.100q is not the registry itself, which was reached without TLS", redact(u))
		return errkind.WithHint(err, "Serve the registry over https, or let it issue tokens itself.")
	}
	return nil
}
