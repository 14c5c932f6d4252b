package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/trident-project/trident/internal/errkind"
)

// ask sends a GET and follows redirects. We follow them ourselves: errors and
// Referer headers of the library carry queries, which may be secret. An
// Authorization in header is for the host of u and sent to no other.
func ask(ctx context.Context, transport http.RoundTripper, u *url.URL, header http.Header) (*http.Response, error) {
	first := u
	for range maxRedirects + 1 {
		h := header.Clone()
		if u.Scheme != first.Scheme || u.Host != first.Host {
			h.Del("Authorization")
		}
		resp, err := send(ctx, transport, u, h)
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
			return nil, errkind.Errorf(errkind.Invalid, "%s redirects to what is no URL", redact(u))
		}
		next = u.ResolveReference(next)
		if next.Scheme != "https" && (next.Scheme != "http" || u.Scheme == "https") {
			return nil, errkind.Errorf(errkind.Denied, "%s redirects to %s: only https, or http from http, is followed", redact(u), redact(next))
		}
		u = next
	}
	return nil, errkind.Errorf(errkind.Invalid, "more than %d redirects", maxRedirects)
}

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

func send(ctx context.Context, transport http.RoundTripper, u *url.URL, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.URL, req.Host, req.Header = u, u.Host, header
	req.Header.Set("User-Agent", "trident")
	req.Header.Set("Accept-Encoding", "identity")
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	resp, err := transport.RoundTrip(req)
	if err == nil {
		return resp, nil
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return nil, errkind.Errorf(errkind.Untrusted, "connect to %s: %w", u.Host, cert)
	}
	return nil, retryError{fmt.Errorf("ask %s: %w", u.Host, err), 0}
}
