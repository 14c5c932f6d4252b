package fetch

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// get sends a GET request and follows redirects itself, because errors and Referer
// headers of net/http have the query of a URL, which may be secret. Requests have the
// Authorization of header, else the user and password of u. After the first redirect to
// another scheme, host or port no request has either, even if a later redirect is to the
// first host. As in net/http, each request has the redirect that caused it as its Response.
func get(ctx context.Context, transport http.RoundTripper, u *url.URL, header http.Header) (*http.Response, error) {
	auth := header.Get("Authorization")
	if auth == "" && u.User != nil {
		password, _ := u.User.Password()
		auth = basicAuth(u.User.Username(), password)
	}
	start := originOf(u)
	var redirect *http.Response
	for range maxRedirects + 1 {
		if originOf(u) != start {
			auth = ""
		}
		resp, err := send(ctx, transport, u, header, auth, redirect)
		if err != nil && redirect != nil {
			return nil, redirectedError{fmt.Errorf("%s redirects: %w", redact(redirect.Request.URL), err)}
		}
		if err != nil {
			return nil, err
		}
		to := resp.Header.Get("Location")
		if !redirects(resp.StatusCode) || to == "" {
			return resp, nil
		}
		_ = resp.Body.Close()
		next, err := url.Parse(to)
		if err != nil || len(to) > maxURL {
			return nil, errkind.Errorf(errkind.Invalid, "%s redirects to a location that is not a URL", redact(u))
		}
		next = u.ResolveReference(next)
		if next.Scheme != "https" && (next.Scheme != "http" || u.Scheme == "https") || next.Hostname() == "" {
			err := errkind.Errorf(errkind.Denied, "%s redirects to %s: only https, or http from http, is followed", redact(u), redact(next))
			return nil, errkind.WithHint(err, "Give the address of the file itself, or have the server redirect to https.")
		}
		u, redirect = next, resp
	}
	err := errkind.Errorf(errkind.Invalid, "more than %d redirects, the last one to %s", maxRedirects, redact(u))
	return nil, errkind.WithHint(err, "Give the address of the file itself, or correct the redirects of the server.")
}

// redirectedError is a failure of a request that a redirect caused.
type redirectedError struct{ error }

func (e redirectedError) Unwrap() error { return e.error }

// originOf returns the scheme, host and port of u in one spelling. Spellings of a name
// that only a resolver knows to be equal (a trailing dot, IDN) count as different: then
// a login fails, but no password leaks.
func originOf(u *url.URL) string {
	host, port := u.Hostname(), u.Port()
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
	}
	host = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, host)
	if port == "" && u.Scheme == "http" {
		port = "80"
	} else if port == "" && u.Scheme == "https" {
		port = "443"
	}
	return u.Scheme + "://[" + host + "]:" + port
}

// changedOrigin reports whether a redirect before resp was to another origin, also if a
// later redirect was to the first one.
func changedOrigin(resp *http.Response) bool {
	var origins []string
	for r := resp; r != nil && r.Request != nil; r = r.Request.Response {
		origins = append(origins, originOf(r.Request.URL))
	}
	return len(slices.Compact(origins)) > 1
}

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// send sends one GET request, without the user and password in u.
func send(ctx context.Context, transport http.RoundTripper, u *url.URL, header http.Header, auth string, redirect *http.Response) (*http.Response, error) {
	to := *u
	to.User = nil
	req := (&http.Request{Method: http.MethodGet, URL: &to, Host: u.Host, Header: http.Header{}, Response: redirect}).WithContext(ctx)
	maps.Copy(req.Header, header)
	req.Header.Del("Authorization")
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	return roundTrip(transport, req)
}

// roundTrip sends req, whose header it changes, and returns an error for people.
func roundTrip(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "trident")
	req.Header.Set("Accept-Encoding", "identity")
	var tried handshake
	proxy := proxyOf(transport, req)
	req = req.WithContext(context.WithValue(tried.trace(req.Context()), proxyKey{}, proxy))
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, failure(req.URL, proxy, &tried, err)
	}
	resp.Request = req
	return resp, nil
}
