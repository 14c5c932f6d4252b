package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	"github.com/trident-project/trident/proto/errkind"
)

// party is a listener with the hosts that connect to it. All times are bounds that a busy machine
// can meet.
type party struct {
	t *testing.T
	a *authority
	*client.Listener
	arrived chan string // the hosts that have connected
	logged  chan string // the lines of the log
}

func (p party) Write(line []byte) (int, error) {
	p.logged <- string(line)
	return len(line), nil
}

func newParty(t *testing.T, options ...client.ListenOption) party {
	t.Helper()
	p := party{t: t, a: newAuthority(t), arrived: make(chan string, 100), logged: make(chan string, 100)}
	logger := slog.New(slog.NewTextHandler(p, &slog.HandlerOptions{Level: slog.LevelWarn}))
	options = append([]client.ListenOption{client.WithConnected(func(h client.HostConn) { p.arrived <- h.Identity }), client.WithListenLogger(logger)}, options...)
	config := &tls.Config{Certificates: []tls.Certificate{p.a.leaf(t)}, ClientCAs: p.a.pool}
	var err error
	if p.Listener, err = client.Listen("127.0.0.1:0", config, options...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// within returns a context for a call that ends soon.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// next returns the next text of a channel.
func (p party) next(from chan string) string {
	p.t.Helper()
	select {
	case text := <-from:
		return text
	case <-within(p.t).Done():
		p.t.Fatal("nothing came")
		return ""
	}
}

// certificate returns one of a host with names.
func (p party) certificate(names ...string) tls.Certificate {
	cert, key := p.a.sign(p.t, &x509.Certificate{
		SerialNumber: big.NewInt(3), DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// plain connects without TLS.
func (p party) plain() net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// connect connects a host, and returns when the listener has accepted it.
func (p party) connect(name string) net.Conn {
	p.t.Helper()
	conn := tls.Client(p.plain(), &tls.Config{ServerName: "localhost", RootCAs: p.a.pool, Certificates: []tls.Certificate{p.certificate(name)}})
	if err := conn.HandshakeContext(within(p.t)); err != nil {
		p.t.Fatal(err)
	}
	if got := p.next(p.arrived); got != name {
		p.t.Fatalf("%s has connected, want %s", got, name)
	}
	return conn
}

// sees waits until these hosts wait.
func (p party) sees(names ...string) {
	p.t.Helper()
	for end := within(p.t); !slices.Equal(p.Hosts(), names); {
		if end.Err() != nil {
			p.t.Fatalf("hosts %v, want %v", p.Hosts(), names)
		}
		time.Sleep(time.Millisecond)
	}
}

// speaks checks that what a host sends arrives at the one who took its connection.
func speaks(t *testing.T, host io.Writer, taken client.HostConn, text string) {
	t.Helper()
	if _, err := io.WriteString(host, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(taken, got); err != nil || string(got) != text {
		t.Errorf("%q, %v; want %q", got, err, text)
	}
}

func TestConnectionsOfHostsAreHandedOut(t *testing.T) {
	p := newParty(t)
	a := p.connect("a")
	p.sees("a")
	b := p.connect("b")
	p.sees("a", "b")
	if _, err := p.Host(within(t), ""); errkind.Of(err) != errkind.Invalid {
		t.Errorf("no identity: %v", err)
	}
	second, err := p.Host(within(t), "b")
	if err != nil || second.Identity != "b" || second.Certificate.DNSNames[0] != "b" {
		t.Fatalf("%+v, %v", second, err)
	}
	first, err := p.Accept(within(t))
	if err != nil || first.Identity != "a" {
		t.Fatalf("%+v, %v", first, err)
	}
	speaks(t, a, first, "of a")
	speaks(t, b, second, "of b")
	// A call that waits gets the connection that comes.
	result := make(chan client.HostConn, 1)
	go func() {
		defer close(result)
		if conn, err := p.Host(within(t), "c"); err == nil {
			result <- conn
		}
	}()
	c := p.connect("c")
	if conn, ok := <-result; !ok {
		t.Error("the call that waited has failed")
	} else {
		speaks(t, c, conn, "of c")
	}
	p.sees()
}

func TestTheNewestConnectionOfAHostCounts(t *testing.T) {
	p := newParty(t)
	old := p.connect("a")
	p.sees("a")
	young := p.connect("a")
	if _, err := old.Read(make([]byte, 1)); err == nil {
		t.Error("the previous connection is open")
	}
	p.sees("a")
	taken, err := p.Accept(within(t))
	if err != nil {
		t.Fatal(err)
	}
	speaks(t, young, taken, "young")
}

func TestAWaitingConnectionThatEndsIsForgotten(t *testing.T) {
	p := newParty(t)
	conn := p.connect("a")
	p.sees("a")
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	p.sees()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errkind.Errorf(errkind.Cancelled, "enough"))
	for identity, want := range map[string]string{"": "no host has connected: enough", "a": `the host "a" has not connected: enough`} {
		take := p.Accept
		if identity != "" {
			take = func(ctx context.Context) (client.HostConn, error) { return p.Host(ctx, identity) }
		}
		if _, err := take(ctx); err == nil || errkind.Of(err) != errkind.Cancelled || err.Error() != want || errkind.Hint(err) == "" {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// Nothing is left of the calls that gave up: the next connection waits.
	p.connect("a")
	p.sees("a")
}

func TestWhatAHostSendsEarlyIsNotLost(t *testing.T) {
	p := newParty(t)
	conn := p.connect("a")
	p.sees("a")
	if _, err := io.WriteString(conn, "ea"); err != nil {
		t.Fatal(err)
	}
	taken, err := p.Accept(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "rly"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(taken, got); err != nil || string(got) != "early" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestACallOverTheConnectionOfAHost(t *testing.T) {
	p := newParty(t)
	c, err := p.Client("a")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	s := clienttest.New(clienttest.Config{Version: "1.2.3"})
	defer s.Close()
	for range 2 { // the host connects again after its connection has ended
		conn := p.connect("a")
		s.Serve(newOnce(conn))
		if v, err := c.Version(within(t)); err != nil || v != "1.2.3" {
			t.Errorf("%q, %v", v, err)
		}
		_ = conn.Close()
	}
}

// once is a listener that has one connection.
type once struct {
	conns chan net.Conn
	end   chan struct{}
	close func()
}

func newOnce(conn net.Conn) *once {
	o := &once{make(chan net.Conn, 1), make(chan struct{}), nil}
	o.conns <- conn
	o.close = sync.OnceFunc(func() { close(o.end) })
	return o
}

func (o *once) Accept() (net.Conn, error) {
	select {
	case conn := <-o.conns:
		return conn, nil
	case <-o.end:
		return nil, net.ErrClosed
	}
}

func (o *once) Close() error { o.close(); return nil }

func (o *once) Addr() net.Addr { return &net.UnixAddr{} }

func TestAPeerThatIsNotAHostIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		options []client.ListenOption
		act     func(party) net.Conn
		want    string
	}{
		"one that is silent": {
			options: []client.ListenOption{client.WithHandshakes(10*time.Millisecond, 9)},
			act:     func(p party) net.Conn { return p.plain() }, want: "no TLS handshake within 10ms",
		},
		"one that goes": {act: func(p party) net.Conn {
			conn := p.plain()
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			return conn
		}, want: "closed the connection before a TLS handshake"},
		"a browser without TLS": {act: func(p party) net.Conn {
			conn := p.plain()
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			return conn
		}, want: "does not speak TLS"},
		"one of another authority": {act: func(p party) net.Conn {
			theirs := party{t: p.t, a: newAuthority(p.t)}.certificate("a")
			conn := tls.Client(p.plain(), &tls.Config{ServerName: "localhost", RootCAs: p.a.pool, Certificates: []tls.Certificate{theirs}})
			_ = conn.HandshakeContext(within(p.t))
			return conn
		}, want: "certificate"},
		"one that the program does not know": {
			options: []client.ListenOption{client.WithIdentity(func(*x509.Certificate) string { return "" })},
			act: func(p party) net.Conn {
				conn := tls.Client(p.plain(), &tls.Config{ServerName: "localhost", RootCAs: p.a.pool, Certificates: []tls.Certificate{p.certificate("a")}})
				_ = conn.HandshakeContext(within(p.t))
				return conn
			}, want: "names no host",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newParty(t, tt.options...)
			conn := tt.act(p)
			if line := p.next(p.logged); !strings.Contains(line, tt.want) || !strings.Contains(line, "peer=127.0.0.1") {
				t.Errorf("log %s; want %q", line, tt.want)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the connection is open: %v", err)
			}
			p.sees()
		})
	}
}

func TestTheOldestOfTooManyHandshakesEnds(t *testing.T) {
	p := newParty(t, client.WithHandshakes(time.Hour, 2))
	oldest := p.plain()
	p.plain()
	// The listener accepts in the order of the connections, so the third one ends the first.
	p.plain()
	if line := p.next(p.logged); !strings.Contains(line, "too many handshakes are unfinished") || !strings.Contains(line, oldest.LocalAddr().String()) {
		t.Errorf("log %s; the oldest peer is %s", line, oldest.LocalAddr())
	}
	if _, err := oldest.Read(make([]byte, 1)); err == nil {
		t.Error("the oldest connection is open")
	}
}

func TestAClosedListenerEndsWhatWaits(t *testing.T) {
	p := newParty(t)
	waits := p.connect("b")
	p.sees("b")
	half := p.plain()
	ended := make(chan error, 1)
	go func() {
		_, err := p.Host(within(t), "a")
		ended <- err
	}()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; errkind.Of(err) != errkind.Cancelled {
		t.Errorf("a call that waits: %v", err)
	}
	if _, err := p.Accept(within(t)); errkind.Of(err) != errkind.Cancelled {
		t.Errorf("a later call: %v", err)
	}
	for name, conn := range map[string]net.Conn{"a connection that waits": waits, "a handshake": half} {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s is open", name)
		}
	}
}

func TestAListenerNeedsItsCertificates(t *testing.T) {
	a := newAuthority(t)
	leaf := []tls.Certificate{a.leaf(t)}
	for name, config := range map[string]*tls.Config{"nothing": nil, "no certificate": {ClientCAs: a.pool}, "no authorities": {Certificates: leaf}} {
		if _, err := client.Listen("127.0.0.1:0", config); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := newParty(t)
	if _, err := client.Listen(p.Addr().String(), &tls.Config{Certificates: leaf, ClientCAs: a.pool}); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("an address that is taken: %v", err)
	}
}

func TestTheIdentityOfACertificate(t *testing.T) {
	uri, err := url.Parse("spiffe://fleet/a")
	if err != nil {
		t.Fatal(err)
	}
	raw := bytes.Repeat([]byte{1}, 10)
	fingerprint := client.Identity(&x509.Certificate{Raw: raw})
	if len(fingerprint) != len("sha256:")+64 {
		t.Errorf("fingerprint %s", fingerprint)
	}
	for want, cert := range map[string]*x509.Certificate{
		"a.example":        {DNSNames: []string{"a.example", "b"}, URIs: []*url.URL{uri}},
		"spiffe://fleet/a": {DNSNames: []string{"with space", "\x1b[2J", strings.Repeat("x", 254), "\ufffd", ""}, URIs: []*url.URL{uri}},
		fingerprint:        {Raw: raw, DNSNames: []string{"\n"}},
	} {
		if got := client.Identity(cert); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
