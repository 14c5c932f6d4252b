package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/gateway/identity"
	"github.com/trident-project/trident/internal/gateway/password"
	"github.com/trident-project/trident/internal/gateway/rights"
	"github.com/trident-project/trident/internal/gateway/token"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// maxFile is the largest file of settings or certificates, in bytes.
const maxFile = 1 << 20

// state is what the files of the gateway say. It never changes; a reload makes a new one.
type state struct {
	config      *config.Config
	policy      *config.Policy
	certificate tls.Certificate
	tls         *tls.Config // of all connections
	authorities *x509.CertPool
	tokens      *token.List
	passphrases *password.List
	stamps      []regfile.Stamp
}

// hasChanged reports whether a file is no longer as it was when it was read.
func (s *state) hasChanged() bool {
	return slices.ContainsFunc(s.stamps, regfile.Stamp.HasChanged)
}

// ReadConfig reads the file of settings at path.
func ReadConfig(path string) (*config.Config, error) {
	text, err := regfile.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errkind.WithHint(errkind.With(errkind.NotFound, fmt.Errorf("read the settings: %w", err)), "make them and the certificates: trident-gateway setup")
	}
	if err != nil {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	c, err := config.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the settings: %s: %w", path, err)
	}
	return c, nil
}

// Check reads all files of the gateway as serve does, and returns the first fault. It also
// returns an error of kind Denied if tridentd would refuse the settings or the tokens, because
// somebody else than root can write them, or if every user can read the private key.
func Check(path string) error {
	s, err := readState(path)
	if err != nil {
		return err
	}
	for _, name := range []string{path, s.config.Tokens} {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) { // no tokens yet
			continue
		}
		if err != nil {
			return fmt.Errorf("check who can write the settings: %w", err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
			return errkind.WithHint(errkind.Errorf(errkind.Denied, "%s: tridentd refuses a file that root does not own or that others can write", name),
				"chown root %[1]s && chmod go-w %[1]s", name)
		}
	}
	key := s.config.TLS.Key
	if info, err := os.Stat(key); err != nil {
		return fmt.Errorf("check who can read the private key: %w", err)
	} else if info.Mode().Perm()&0o007 != 0 {
		return errkind.WithHint(errkind.Errorf(errkind.Denied, "%s: every user of this host can read the private key", key), "chmod o= %s, and make a new key and certificate", key)
	}
	return nil
}

func readState(path string) (*state, error) {
	s := &state{stamps: []regfile.Stamp{regfile.StampOf(path)}}
	var err error
	if s.config, err = ReadConfig(path); err != nil {
		return nil, err
	}
	s.policy = s.config.Policy()
	t := s.config.TLS
	for _, name := range []string{t.Certificate, t.Key, t.ClientCA, s.config.Tokens, s.config.HTTP.Passphrases} {
		s.stamps = append(s.stamps, regfile.StampOf(name))
	}
	if s.certificate, err = readPair(t); err != nil {
		return nil, err
	}
	s.tls = tlsConfig(s.certificate)
	text, err := regfile.ReadFile(t.ClientCA, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read the authorities of client certificates: %w", err)
	}
	s.authorities = x509.NewCertPool()
	if !s.authorities.AppendCertsFromPEM(text) {
		return nil, errkind.Errorf(errkind.Invalid, "read the authorities of client certificates: %s has no certificate in PEM", t.ClientCA)
	}
	if s.tokens, err = token.Read(s.config.Tokens); err != nil {
		return nil, err
	}
	if s.passphrases, err = password.Read(s.config.HTTP.Passphrases); err != nil {
		return nil, err
	}
	return s, nil
}

// tlsConfig returns the TLS settings of connections. The gateway itself verifies client
// certificates, after the handshake: then it can tell the caller what is wrong with one. The
// handshake proves that the caller has the key. A caller that offers both protocols is a browser
// or a program of HTTP: clients of gRPC offer only h2.
func tlsConfig(certificate tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protoHTTP, protoGRPC}, Certificates: []tls.Certificate{certificate},
		ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true,
	}
}

func readPair(t config.TLS) (tls.Certificate, error) {
	cert, err := regfile.ReadFile(t.Certificate, maxFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the certificate of the gateway: %w", err)
	}
	key, err := regfile.ReadFile(t.Key, maxFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the key of the gateway: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil { // the text of the error has no part of the key
		return pair, errkind.With(errkind.Invalid, fmt.Errorf("read %s and %s: %w", t.Certificate, t.Key, err))
	}
	return pair, nil
}

// login is who a caller is, and how the caller proved it.
type login struct {
	who    string
	by     string            // certificate, token, passphrase or console
	cert   *x509.Certificate // nil for a token or passphrase
	serial string            // of the certificate
	// With the state verifiedBy the certificate is valid from one time until another.
	verifiedBy  *state
	from, until time.Time
	// session is that of a passphrase or of a console token; nil for others.
	session *password.Session
}

// verify returns who has a client certificate. The caller has proved in the handshake that
// it has the key.
func (s *state) verify(chain []*x509.Certificate, now time.Time) (*login, error) {
	leaf := chain[0]
	pool := x509.NewCertPool()
	for _, c := range chain[1:] {
		pool.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.authorities, Intermediates: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, errkind.WithHint(errkind.With(errkind.Denied, fmt.Errorf("verify the client certificate: %w", err)), "%s", hintOf(err))
	}
	who, err := identity.FromCertificate(leaf, s.config.TLS.Identity)
	if err != nil {
		return nil, err
	}
	l := &login{who: who, by: "certificate", cert: leaf, serial: leaf.SerialNumber.Text(16), verifiedBy: s, from: leaf.NotBefore, until: leaf.NotAfter}
	for _, c := range chains[0] {
		l.from, l.until = slices.MaxFunc([]time.Time{l.from, c.NotBefore}, time.Time.Compare), slices.MinFunc([]time.Time{l.until, c.NotAfter}, time.Time.Compare)
	}
	if s.policy.IsRevoked(who, l.serial) {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "verify the client certificate of %s: it is revoked (serial number %s)", who, l.serial),
			"use another certificate")
	}
	return l, nil
}

func hintOf(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "renew the client certificate, and compare the clocks of both machines"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "use a certificate of an authority in tls.clientCA of the gateway's settings"
	}
	return "use a certificate for clients (extended key usage clientAuth)"
}

// find returns who has a token: one of the file, or that of a session.
func (s *Server) find(text string, now time.Time) (*login, error) {
	if strings.HasPrefix(text, password.ConsolePrefix) {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: a console token counts for the method authenticate alone"), "call authenticate with it, which returns a token")
	}
	st := s.state.Load()
	found, ok, err := s.people.Find(text, st.passphrases, now)
	switch {
	case err != nil:
		return nil, err
	case ok:
		return st.person(found)
	}
	return st.find(text, now)
}

// person returns the login of a person with a session.
func (s *state) person(found password.Session) (*login, error) {
	who, by := found.Identity(), "passphrase"
	if found.IsConsole() {
		by = "console"
	}
	if s.policy.IsRevoked(who, "") {
		return nil, errkind.Errorf(errkind.Denied, "log in: %s is revoked", who)
	}
	return &login{who: who, by: by, session: &found}, nil
}

// find returns who has a token of the file.
func (s *state) find(text string, now time.Time) (*login, error) {
	t, err := s.tokens.Find(text, now)
	if err != nil {
		return nil, err
	}
	if s.policy.IsRevoked(t.Identity(), "") {
		return nil, errkind.Errorf(errkind.Denied, "log in: token %s is revoked", t.Name)
	}
	return &login{who: t.Identity(), by: "token"}, nil
}

// rightsOf returns the rights of a login now; none if it is not valid any more.
func (s *state) rightsOf(l *login, now time.Time) rights.Set {
	if s.policy.IsRevoked(l.who, l.serial) || l.cert != nil && now.After(l.cert.NotAfter) || l.session != nil && !l.session.IsValid(s.passphrases, now) {
		return 0
	}
	set, err := s.tokens.Rights(l.who, s.policy.Rights(l.who), now)
	if err != nil {
		return 0
	}
	return set
}
