// Package identity reads who a remote caller is from a client certificate.
//
// An identity is a kind, a colon and a name: "uri:spiffe://example.org/ops",
// "dns:builder.example.org", "email:ops@example.org". A token has the kind "token", a
// person with a passphrase the kind "passphrase", and root with a console token is
// "console:root". The kind is a part of the identity, so that a name of one kind never counts
// as one of another.
package identity

import (
	"crypto/x509"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// A Kind is a kind of subject alternative name (RFC 5280, 4.2.1.6).
type Kind string

// The kinds that can identify a caller.
const (
	URI   Kind = "uri"
	DNS   Kind = "dns"
	Email Kind = "email"
)

// Kinds returns all kinds, in the order in which a certificate is searched by default.
func Kinds() []Kind { return []Kind{URI, DNS, Email} }

// maxName is the longest name of an identity, in bytes.
const maxName = 255

// FromCertificate returns the identity in a certificate: the only name of the first of the
// given kinds of which the certificate has a name. The error is of kind Denied if there is
// no name, more than one, or one that Check refuses. It does not verify the certificate.
func FromCertificate(cert *x509.Certificate, kinds []Kind) (string, error) {
	for _, kind := range kinds {
		names := namesOf(cert, kind)
		switch len(names) {
		case 0:
			continue
		case 1:
			who := string(kind) + ":" + names[0]
			if err := Check(who); err != nil {
				return "", err
			}
			return who, nil
		}
		return "", errkind.WithHint(
			errkind.Errorf(errkind.Denied, "read the identity in the client certificate: it has %d names of the kind %s, not one", len(names), kind),
			"use a certificate with one subject alternative name")
	}
	var words []string
	for _, kind := range kinds {
		words = append(words, string(kind))
	}
	return "", errkind.WithHint(
		errkind.Errorf(errkind.Denied, "read the identity in the client certificate: it has no subject alternative name of the kind %s", strings.Join(words, ", ")),
		"use a certificate with such a name, or add its kind to tls.identity in /etc/trident/gateway.yaml")
}

func namesOf(cert *x509.Certificate, kind Kind) []string {
	switch kind {
	case URI:
		var out []string
		for _, u := range cert.URIs {
			out = append(out, u.String())
		}
		return out
	case DNS:
		return cert.DNSNames
	case Email:
		return cert.EmailAddresses
	}
	return nil
}

// Check returns an error of kind Denied unless who is a well-formed identity: a kind, a
// colon, and 1 to 255 visible ASCII characters without `*`, which patterns use.
func Check(who string) error {
	kind, name, ok := strings.Cut(who, ":")
	switch {
	case !ok || kind != "token" && kind != "passphrase" && who != "console:root" && kind != string(URI) && kind != string(DNS) && kind != string(Email):
		return errkind.Errorf(errkind.Denied, "read the identity of the caller: it does not begin with uri:, dns:, email:, token: or passphrase:, and is not console:root")
	case name == "" || len(name) > maxName:
		return errkind.Errorf(errkind.Denied, "read the identity of the caller: its name has %d characters, not 1 to %d", len(name), maxName)
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' }):
		return errkind.Errorf(errkind.Denied, "read the identity of the caller: its name %.80q has a character that is not visible ASCII, or a star", name)
	}
	return nil
}
