package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net/url"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/identity"
)

func TestTheIdentityIsTheOnlyNameOfTheFirstKind(t *testing.T) {
	uri := []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/ops"}}
	for name, tt := range map[string]struct {
		cert  x509.Certificate
		kinds []identity.Kind
		want  string // or a part of the error
	}{
		"a URI":                  {x509.Certificate{URIs: uri}, identity.Kinds(), "uri:spiffe://example.org/ops"},
		"a DNS name":             {x509.Certificate{DNSNames: []string{"a.example"}}, identity.Kinds(), "dns:a.example"},
		"an email address":       {x509.Certificate{EmailAddresses: []string{"a@b"}}, identity.Kinds(), "email:a@b"},
		"the first kind":         {x509.Certificate{URIs: uri, DNSNames: []string{"x", "y"}}, identity.Kinds(), "uri:spiffe://example.org/ops"},
		"the configured kind":    {x509.Certificate{URIs: uri, EmailAddresses: []string{"a@b"}}, []identity.Kind{identity.Email}, "email:a@b"},
		"no name":                {x509.Certificate{}, identity.Kinds(), "no subject alternative name of the kind uri, dns, email"},
		"another kind":           {x509.Certificate{DNSNames: []string{"x"}}, []identity.Kind{identity.URI}, "no subject alternative name of the kind uri"},
		"two names":              {x509.Certificate{DNSNames: []string{"x", "y"}}, identity.Kinds(), "2 names of the kind dns"},
		"a star":                 {x509.Certificate{DNSNames: []string{"*.x"}}, identity.Kinds(), "star"},
		"a line break":           {x509.Certificate{EmailAddresses: []string{"a\nb"}}, identity.Kinds(), "visible ASCII"},
		"a zero byte":            {x509.Certificate{DNSNames: []string{"good\x00.bad"}}, identity.Kinds(), "visible ASCII"},
		"an empty name":          {x509.Certificate{DNSNames: []string{""}}, identity.Kinds(), "0 characters"},
		"a very long name":       {x509.Certificate{DNSNames: []string{strings.Repeat("a", 256)}}, identity.Kinds(), "256 characters"},
		"a kind that is unknown": {x509.Certificate{DNSNames: []string{"x"}}, []identity.Kind{"ip"}, "no subject alternative name"},
	} {
		got, err := identity.FromCertificate(&tt.cert, tt.kinds)
		if err != nil && errkind.Of(err) != errkind.Denied {
			t.Errorf("%s: kind %s", name, errkind.Of(err))
		}
		if err != nil && strings.Contains(err.Error(), tt.want) || got == tt.want {
			continue
		}
		t.Errorf("%s: %q, %v", name, got, err)
	}
}

func TestCheck(t *testing.T) {
	for who, good := range map[string]bool{
		"token:ci": true, "dns:a": true, "uri:x:y": true, "email:a@b": true,
		"": false, "ci": false, "ip:1": false, "dns:": false, "dns:ä": false, "dns:a b": false, "Token:x": false,
	} {
		if err := identity.Check(who); (err == nil) != good {
			t.Errorf("%q: %v", who, err)
		}
	}
}

// FuzzFromCertificate checks that no certificate leads to an identity that is not well
// formed, or that names another kind.
func FuzzFromCertificate(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range []*x509.Certificate{
		{SerialNumber: big.NewInt(1), URIs: []*url.URL{{Scheme: "a", Host: "b"}}},
		{SerialNumber: big.NewInt(1), DNSNames: []string{"a.b"}, EmailAddresses: []string{"a@b"}},
	} {
		der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		who, err := identity.FromCertificate(cert, identity.Kinds())
		if err != nil {
			if errkind.Of(err) != errkind.Denied || who != "" {
				t.Errorf("%q, %v", who, err)
			}
			return
		}
		if err := identity.Check(who); err != nil || strings.HasPrefix(who, "token:") {
			t.Errorf("%q: %v", who, err)
		}
	})
}
