package connect_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/gateway/connect"
	"github.com/trident-project/trident/internal/gateway/connect/connecttest"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// lines is a log. Its channel gets each line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(bytes.TrimSpace(p))
	return len(p), nil
}

const done = operationsv1.Phase_PHASE_DONE

// meeting is a listener to which hosts connect.
type meeting struct {
	*client.Listener
	t    *testing.T
	ca   *connecttest.Authority
	log  lines
	came chan string // the identities of hosts that have connected
}

func meet(t *testing.T, options ...client.ListenOption) *meeting {
	t.Helper()
	m := &meeting{t: t, ca: connecttest.NewAuthority(t), log: make(lines, 100), came: make(chan string, 100)}
	config := &tls.Config{Certificates: []tls.Certificate{m.ca.Issue(connect.ServerName).TLS}, ClientCAs: m.ca.Pool}
	options = append([]client.ListenOption{
		client.WithListenLogger(slog.New(slog.NewTextHandler(m.log, nil))),
		client.WithConnected(func(c client.HostConn) { m.came <- c.Identity }),
	}, options...)
	l, err := client.Listen("127.0.0.1:0", config, options...)
	if err != nil {
		t.Fatal(err)
	}
	m.Listener = l
	t.Cleanup(func() { _ = l.Close() })
	return m
}

// host runs the agent of a host in front of a daemon until the test ends.
func (m *meeting) host(name string, daemon *clienttest.Server) (stop func()) {
	m.t.Helper()
	socket := filepath.Join(m.t.TempDir(), "s")
	if err := daemon.Listen(socket); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(daemon.Close)
	own := m.ca.Issue(name)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		connect.Run(ctx, connect.Config{
			ClientAddress: m.Addr().String(), Socket: socket, Proxy: "none", MinPause: 20 * time.Millisecond, MaxPause: 100 * time.Millisecond,
			TLS: connect.Identity{Certificate: own.Certificate, Key: own.Key, CA: m.ca.PEM, ServerName: connect.ServerName},
		}, slog.New(slog.DiscardHandler))
	})
	stop = sync.OnceFunc(func() { cancel(); ended.Wait() })
	m.t.Cleanup(stop)
	return stop
}

func (m *meeting) client(name string) *client.Client {
	m.t.Helper()
	c, err := m.Client(name)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = c.Close() })
	return c
}

// dial connects as a host does, with a TLS configuration that the test may change.
func (m *meeting) dial(name string, change func(*tls.Config)) (*tls.Conn, error) {
	m.t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{m.ca.Issue(name).TLS}, RootCAs: m.ca.Pool, ServerName: connect.ServerName}
	if change != nil {
		change(config)
	}
	conn, err := tls.Dial("tcp", m.Addr().String(), config)
	if err == nil {
		m.t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func TestAHostThatConnectsOutIsCalled(t *testing.T) {
	t.Parallel()
	m := meet(t)
	m.host("one", clienttest.New(clienttest.Config{Version: "1.0.0", HostID: "id-1"}))
	m.host("two", clienttest.New(clienttest.Config{Version: "2.0.0", HostID: "id-2"}))
	for name, version := range map[string]string{"one": "1.0.0", "two": "2.0.0"} {
		if got, err := m.client(name).Version(t.Context()); got != version || err != nil {
			t.Errorf("host %s has version %q, %v", name, got, err)
		}
	}
}

// The daemon restarts for the upgrade, and other calls go on: none fails, and the events come
// once and in order.
func TestNoCallFailsDuringAnUpgradeOverAConnectionFromTheHost(t *testing.T) {
	t.Parallel()
	m := meet(t)
	daemon := clienttest.New(clienttest.Config{Version: "1.0.0", NextVersion: "2.0.0", Script: []*operationsv1.Event{
		clienttest.Step(0, "fetch", nil), clienttest.Restart("restart"), clienttest.Step(0, "prove", nil), clienttest.Step(done, "settle", nil),
	}})
	m.host("one", daemon)
	c := m.client("one")
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var calls, failures atomic.Int64
	for range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.Status(context.WithoutCancel(ctx)); err != nil {
					failures.Add(1)
					t.Error(err)
				}
				calls.Add(1)
			}
		})
	}
	var last uint64
	_, err := c.Upgrade(t.Context(), client.Source{URL: "http://x"}, nil, func(e *client.Event) {
		if e.GetSequence() != last+1 {
			t.Errorf("event %d after %d", e.GetSequence(), last)
		}
		last = e.GetSequence()
		if e.GetChange().GetWaiting() == "restart" {
			go daemon.Restart()
		}
	})
	cancel()
	load.Wait()
	if err != nil || failures.Load() > 0 || calls.Load() < 8 {
		t.Errorf("%v; %d of %d calls have failed", err, failures.Load(), calls.Load())
	}
	if v, err := c.Version(t.Context()); v != "2.0.0" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
}

// A host that reboots connects anew, with a new agent.
func TestAWatchGoesOnAfterAReboot(t *testing.T) {
	t.Parallel()
	m := meet(t)
	daemon := clienttest.New(clienttest.Config{Script: []*operationsv1.Event{
		clienttest.Step(0, "try", nil), clienttest.Reboot("reboot"), clienttest.Step(0, "booted", nil), clienttest.Step(done, "settle", nil),
	}})
	stop := m.host("one", daemon)
	c := m.client("one")
	op, err := c.Upgrade(t.Context(), client.Source{URL: "http://x"}, nil, func(e *client.Event) {
		if e.GetChange().GetWaiting() == "reboot" {
			go func() {
				stop()
				daemon.Restart()
				m.host("one", daemon)
			}()
		}
	})
	if err != nil || op.GetPhase() != done {
		t.Errorf("%v, %v", op, err)
	}
}

func TestConnectionsAreHandedOutByHost(t *testing.T) {
	t.Parallel()
	m := meet(t)
	for _, name := range []string{"one", "two", "three"} {
		if _, err := m.dial(name, nil); err != nil {
			t.Fatal(err)
		}
		<-m.came
		m.awaitHosts(func(hosts []string) bool { return strings.Contains(fmt.Sprint(hosts), name) })
	}
	if got := fmt.Sprint(m.Hosts()); got != "[one two three]" {
		t.Error(got)
	}
	two, err := m.Host(t.Context(), "two")
	if err != nil || two.Identity != "two" || two.Certificate.DNSNames[0] != "two" {
		t.Errorf("%+v, %v", two, err)
	}
	for _, want := range []string{"one", "three"} {
		if got, err := m.Accept(soon(t)); err != nil || got.Identity != want {
			t.Errorf("%q, %v; want %s", got.Identity, err, want)
		}
	}
	// Nobody waits now: a request gets the next connection of its host, and of no other.
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan client.HostConn, 1)
	go func() {
		c, err := m.Host(ctx, "four")
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	for _, name := range []string{"five", "four"} {
		conn, err := m.dial(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, name); err != nil {
			t.Fatal(err)
		}
	}
	c := <-got
	text := make([]byte, 4)
	if _, err := io.ReadFull(c, text); err != nil || string(text) != "four" || c.Identity != "four" {
		t.Errorf("%q, %v", text, err)
	}
	cancel()
	if _, err := m.Host(ctx, "six"); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), `the host "six" has not connected`) || client.Hint(err) == "" {
		t.Error(err)
	}
	if _, err := m.Host(ctx, ""); client.Kind(err) != client.KindInvalid {
		t.Error(err)
	}
}

// awaitHosts waits until the waiting hosts are as is says.
func (m *meeting) awaitHosts(is func([]string) bool) {
	m.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(m.Hosts()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("the waiting hosts are %q", m.Hosts())
		}
	}
}

// What a host sends before it is asked, as upstream's agent does, is not lost.
func TestBytesThatComeEarlyAreKept(t *testing.T) {
	t.Parallel()
	m := meet(t)
	conn, err := m.dial("one", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "early"); err != nil {
		t.Fatal(err)
	}
	m.awaitHosts(func(hosts []string) bool { return len(hosts) == 1 })
	time.Sleep(time.Millisecond) // the byte is read, or not yet: both are right
	got, err := m.Host(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, " bytes"); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, len("early bytes"))
	if _, err := io.ReadFull(got, text); err != nil || string(text) != "early bytes" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestAConnectionThatEndsWhileItWaitsIsForgotten(t *testing.T) {
	t.Parallel()
	m := meet(t)
	first, err := m.dial("one", nil)
	if err != nil {
		t.Fatal(err)
	}
	m.awaitHosts(func(hosts []string) bool { return len(hosts) == 1 })
	if _, err := m.dial("one", nil); err != nil { // the newest counts
		t.Fatal(err)
	}
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the earlier connection: %v", err)
	}
	conn, err := m.Host(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	gone, err := m.dial("one", nil)
	if err != nil {
		t.Fatal(err)
	}
	m.awaitHosts(func(hosts []string) bool { return len(hosts) == 1 })
	_ = gone.Close()
	m.awaitHosts(func(hosts []string) bool { return len(hosts) == 0 })
}

// A connection for a call that has given up waits for the next call.
func TestACallThatGivesUpLosesNoConnection(t *testing.T) {
	t.Parallel()
	m := meet(t)
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() {
			c, err := m.Accept(ctx)
			if err == nil {
				_ = c.Close()
			}
			result <- err
		}()
		if _, err := m.dial("one", nil); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-result; err == nil {
			continue
		}
		c, err := m.Accept(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}

// soon returns a context for a call that ends soon on a machine that works.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestAPeerThatIsNotAHostIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	other := connecttest.NewAuthority(t)
	raw := func(say func(net.Conn)) func(*meeting) {
		return func(m *meeting) {
			conn, err := net.Dial("tcp", m.Addr().String())
			if err != nil {
				m.t.Fatal(err)
			}
			m.t.Cleanup(func() { _ = conn.Close() })
			say(conn)
		}
	}
	handshake := func(change func(*meeting, *tls.Config)) func(*meeting) {
		return func(m *meeting) {
			conn, err := m.dial("one", func(c *tls.Config) { change(m, c) })
			if err == nil { // in TLS 1.3 the refusal follows
				_, err = conn.Read(make([]byte, 1))
			}
			if err == nil {
				m.t.Error("the peer is accepted")
			}
		}
	}
	for name, c := range map[string]struct {
		peer func(*meeting)
		want string
	}{
		"port scan":      {raw(func(c net.Conn) { _ = c.Close() }), "the peer has closed the connection before a TLS handshake"},
		"plain HTTP":     {raw(func(c net.Conn) { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") }), "the peer does not speak TLS"},
		"silence":        {raw(func(net.Conn) {}), "no TLS handshake within 300ms"},
		"slow":           {raw(func(c net.Conn) { _, _ = c.Write([]byte{22, 3, 1}) }), "no TLS handshake within 300ms"},
		"TLS 1.2":        {handshake(func(_ *meeting, c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), "unsupported versions"},
		"no certificate": {handshake(func(_ *meeting, c *tls.Config) { c.Certificates = nil }), "client didn't provide a certificate"},
		"foreign":        {handshake(func(_ *meeting, c *tls.Config) { c.GetClientCertificate = always(other.Issue("one")) }), "certificate signed by unknown authority"},
		"expired":        {handshake(func(m *meeting, c *tls.Config) { c.GetClientCertificate = always(m.ca.IssueExpired("one")) }), "certificate has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := time.Hour
			if strings.Contains(c.want, "within 300ms") {
				limit = 300 * time.Millisecond
			}
			m := meet(t, client.WithHandshakes(limit, 4))
			c.peer(m)
			if line := <-m.log; !strings.Contains(line, c.want) || !strings.Contains(line, "peer=127.0.0.1:") || !strings.Contains(line, "a connection is refused") {
				t.Errorf("%s\n\tand want %s", line, c.want)
			}
			if limit < time.Minute { // which is too short for a host on a busy machine
				return
			}
			if _, err := m.dial("two", nil); err != nil {
				t.Error(err)
			}
			if got, err := m.Accept(soon(t)); err != nil || got.Identity != "two" {
				t.Errorf("%q, %v", got.Identity, err)
			}
		})
	}
}

func always(p connecttest.Pair) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &p.TLS, nil }
}

// Peers that hang in their handshakes do not keep a host out.
func TestUnfinishedHandshakesAreBounded(t *testing.T) {
	t.Parallel()
	m := meet(t, client.WithHandshakes(time.Hour, 3))
	for range 10 {
		conn, err := net.Dial("tcp", m.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	if _, err := m.dial("one", nil); err != nil {
		t.Fatal(err)
	}
	if c, err := m.Accept(soon(t)); err != nil || c.Identity != "one" {
		t.Fatal(err)
	}
	for range 7 {
		if line := <-m.log; !strings.Contains(line, "too many handshakes are unfinished") {
			t.Error(line)
		}
	}
}

func TestAHostIsNamedByItsCertificate(t *testing.T) {
	t.Parallel()
	uri, err := url.Parse("spiffe://fleet/host-7")
	if err != nil {
		t.Fatal(err)
	}
	const print = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // of no bytes
	for _, c := range []struct {
		cert x509.Certificate
		want string
	}{
		{x509.Certificate{DNSNames: []string{"a.example", "b"}, URIs: []*url.URL{uri}}, "a.example"},
		{x509.Certificate{URIs: []*url.URL{uri}}, "spiffe://fleet/host-7"},
		{x509.Certificate{EmailAddresses: []string{"a@b"}}, print},
		{x509.Certificate{}, print},
		{x509.Certificate{DNSNames: []string{"a b", "a\nb", "\x1b[2J", "a\xff", "", strings.Repeat("a", 254), "ok"}}, "ok"},
	} {
		if got := client.Identity(&c.cert); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	m := meet(t, client.WithIdentity(func(c *x509.Certificate) string { return strings.TrimPrefix(c.DNSNames[0], "refuse") }))
	if _, err := m.dial("refuse", nil); err != nil {
		t.Fatal(err)
	}
	if line := <-m.log; !strings.Contains(line, "its certificate names no host") {
		t.Error(line)
	}
	if _, err := m.dial("refuse-not", nil); err != nil {
		t.Fatal(err)
	}
	if c, err := m.Accept(soon(t)); err != nil || c.Identity != "-not" {
		t.Error(c.Identity, err)
	}
}

func TestAListenerNeedsCertificates(t *testing.T) {
	t.Parallel()
	ca := connecttest.NewAuthority(t)
	own := []tls.Certificate{ca.Issue(connect.ServerName).TLS}
	for _, config := range []*tls.Config{nil, {ClientCAs: ca.Pool}, {Certificates: own}} {
		if _, err := client.Listen("127.0.0.1:0", config); client.Kind(err) != client.KindInvalid {
			t.Error(err)
		}
	}
	if _, err := client.Listen("127.0.0.1:x", &tls.Config{Certificates: own, ClientCAs: ca.Pool}); client.Kind(err) != client.KindUnavailable {
		t.Error(err)
	}
}

func TestAClosedListenerEndsItsCalls(t *testing.T) {
	t.Parallel()
	m := meet(t)
	waits, err := m.dial("one", nil)
	if err != nil {
		t.Fatal(err)
	}
	m.awaitHosts(func(hosts []string) bool { return len(hosts) == 1 })
	half, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := m.Host(t.Context(), "two")
		result <- err
	}()
	time.Sleep(time.Millisecond) // before or after: both are right
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-result; client.Kind(err) != client.KindCancelled {
		t.Error(err)
	}
	for _, conn := range []net.Conn{waits, half} {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a connection is still open")
		}
	}
	if _, err := m.Accept(soon(t)); client.Kind(err) != client.KindCancelled {
		t.Error(err)
	}
}
