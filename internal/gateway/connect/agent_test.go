package connect

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/connect/connecttest"
)

// logs is a log that tests read.
type logs struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{} // closed at the next write
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written != nil {
		close(l.written)
		l.written = nil
	}
	return l.text.Write(p)
}

// await returns when the log has part, or with the error that comes before.
func (l *logs) await(part string, failed <-chan error) error {
	for {
		l.mu.Lock()
		if strings.Contains(l.text.String(), part) {
			l.mu.Unlock()
			return nil
		}
		if l.written == nil {
			l.written = make(chan struct{})
		}
		written := l.written
		l.mu.Unlock()
		select {
		case <-written:
		case err := <-failed:
			return fmt.Errorf("ended without %q in the log: %w", part, err)
		}
	}
}

func (l *logs) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// rig is a listener, a socket of tridentd, and an agent between the two.
type rig struct {
	t        *testing.T
	ca       *connecttest.Authority
	listener net.Listener // of TLS
	socket   *net.UnixListener
	agent    *agent
	logs     *logs
}

// serverSettings are those of upstream's listener.
func serverSettings(ca *connecttest.Authority, own connecttest.Pair) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{own.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, ca: connecttest.NewAuthority(t), logs: &logs{}}
	var err error
	if r.listener, err = tls.Listen("tcp", "127.0.0.1:0", serverSettings(r.ca, r.ca.Issue(ServerName))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	if r.socket, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.listener.Close(), r.socket.Close() })
	host := r.ca.Issue("host-1")
	r.agent = newAgent(Config{
		ClientAddress: r.listener.Addr().String(), Socket: path, Proxy: "none", MinPause: time.Second, MaxPause: time.Minute,
		TLS: Identity{Certificate: host.Certificate, Key: host.Key, CA: r.ca.PEM, ServerName: ServerName},
	}, slog.New(slog.NewTextHandler(r.logs, nil)))
	return r
}

// accept returns the next connection of the agent, after its handshake.
func (r *rig) accept() *tls.Conn {
	r.t.Helper()
	raw, err := r.listener.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	conn := raw.(*tls.Conn)
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.HandshakeContext(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// listenWith replaces the listener by one with other settings.
func (r *rig) listenWith(settings *tls.Config) {
	r.t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", settings)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = listener.Close() })
	r.listener, r.agent.config.ClientAddress = listener, listener.Addr().String()
}

// daemon returns the next connection to tridentd's socket.
func (r *rig) daemon() *net.UnixConn {
	r.t.Helper()
	_ = r.socket.SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := r.socket.AcceptUnix()
	if err != nil {
		r.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// begin runs the agent for one connection; the channel gets the pause after it.
func (r *rig) begin(ctx context.Context) <-chan time.Duration {
	out := make(chan time.Duration, 1)
	go func() { out <- r.agent.once(ctx) }()
	return out
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v; want %q", got, err, text)
	}
}

// The agent is the TLS client: TLS 1.3, the name of upstream's certificate, its own
// certificate, no ALPN.
func TestTheTLSRoleIsThatOfUpstreamsAgent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var hello *tls.ClientHelloInfo
	settings := serverSettings(r.ca, r.ca.Issue(ServerName))
	settings.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		hello = h
		return nil, nil
	}
	r.listener = tls.NewListener(r.listenAgain(), settings)
	r.begin(t.Context())
	state := r.accept().ConnectionState()
	if hello.ServerName != "reverseconnectproxy" || len(hello.SupportedProtos) != 0 || fmt.Sprint(hello.SupportedVersions) != fmt.Sprint([]uint16{tls.VersionTLS13}) {
		t.Errorf("hello: %q, %q, %x", hello.ServerName, hello.SupportedProtos, hello.SupportedVersions)
	}
	if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "" || state.PeerCertificates[0].DNSNames[0] != "host-1" {
		t.Errorf("%+v", state)
	}
}

// listenAgain replaces the listener of the rig by one without TLS.
func (r *rig) listenAgain() net.Listener {
	r.t.Helper()
	_ = r.listener.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = l.Close() })
	r.listener, r.agent.config.ClientAddress = l, l.Addr().String()
	return l
}

func TestCertificatesOfOneKeyPairEachAreEnough(t *testing.T) { // as upstream makes them: self-signed
	t.Parallel()
	r := newRig(t)
	host, listener := connecttest.SelfSigned(t), connecttest.SelfSigned(t, ServerName)
	settings := serverSettings(r.ca, listener)
	settings.ClientCAs = settings.ClientCAs.Clone()
	settings.ClientCAs.AppendCertsFromPEM(host.Certificate)
	r.listener = tls.NewListener(r.listenAgain(), settings)
	r.agent.config.TLS = Identity{Certificate: host.Certificate, Key: host.Key, CA: listener.Certificate, ServerName: ServerName}
	r.begin(t.Context())
	conn := r.accept()
	send(t, conn, "x")
	expect(t, r.daemon(), "x")
}

func TestBytesGoBothWaysAndEachEndIsPassedOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pause := r.begin(t.Context())
	conn := r.accept()
	send(t, conn, "question")
	daemon := r.daemon()
	expect(t, daemon, "question")
	send(t, daemon, "answer")
	expect(t, conn, "answer")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := daemon.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v, and want the end", n, err)
	}
	send(t, daemon, "the rest") // the other direction is still open
	expect(t, conn, "the rest")
	_ = daemon.Close()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v, and want the end", n, err)
	}
	if got := <-pause; got < 0 || got >= returnSpread {
		t.Errorf("the next connection comes after %s", got)
	}
}

// systemd starts the daemon when somebody connects to its socket, so the agent must not.
func TestTheSocketIsNotTouchedBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pause := r.begin(t.Context())
	conn := r.accept()
	_ = conn.Close()
	<-pause
	_ = r.socket.SetDeadline(time.Unix(1, 0))
	if conn, err := r.socket.Accept(); err == nil {
		t.Errorf("the agent has connected to the socket: %v", conn)
	}
}

func TestADaemonThatEndsOnlyEndsTheConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pause := r.begin(t.Context())
	conn := r.accept()
	send(t, conn, "x")
	_ = r.daemon().Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("%v, and want the end", err)
	}
	_ = conn.Close()
	if got := <-pause; got < 500*time.Millisecond || got > 1500*time.Millisecond {
		t.Errorf("the next connection comes after %s", got)
	}
}

// A peer that keeps its direction open after the other has ended holds nothing for long.
func TestAHalfOpenConnectionEnds(t *testing.T) {
	t.Parallel()
	near, far := socketPair(t)
	daemonNear, daemonFar := socketPair(t)
	done := make(chan end, 1)
	go func() { done <- both(near, daemonNear, 10*time.Millisecond) }()
	_ = daemonFar.CloseWrite()
	if got := <-done; got != daemonEnd {
		t.Errorf("ended by %q", got)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// A peer that takes no bytes cannot hold the other direction either.
func TestAPeerThatDoesNotReadEnds(t *testing.T) {
	t.Parallel()
	near, far := socketPair(t)
	daemonNear, daemonFar := socketPair(t)
	done := make(chan end, 1)
	go func() { done <- both(near, daemonNear, 10*time.Millisecond) }()
	go func() { _, _ = io.Copy(daemonFar, zeros{}) }() // far reads nothing
	_ = far.CloseWrite()
	if got := <-done; got != listenerEnd {
		t.Errorf("ended by %q", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func socketPair(t *testing.T) (near, far *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "p"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if near, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if far, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

func TestAMissingSocketIsLoggedOnceAndNotABusyLoop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_ = r.socket.Close()
	var before time.Duration
	for i := range 5 {
		pause := r.begin(t.Context())
		conn := r.accept()
		send(t, conn, "x")
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the connection stays open")
		}
		if got := <-pause; got < time.Second<<i/2 || got > time.Second<<i*3/2 || got < before/4 {
			t.Errorf("pause %d is %s", i, got)
		} else {
			before = got
		}
	}
	if n := r.logs.count("level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, r.logs)
	}
	if r.logs.count("no such file or directory") != 1 || r.logs.count("systemctl enable --now tridentd.socket") != 1 || r.logs.count(`msg="connected to the listener"`) != 1 {
		t.Error(r.logs)
	}
}

func TestPausesGrowToTheLongest(t *testing.T) {
	t.Parallel()
	a := newAgent(Config{MinPause: time.Second, MaxPause: 8 * time.Second}, slog.New(slog.DiscardHandler))
	for i, want := range []time.Duration{1, 2, 4, 8, 8, 8} {
		if got := a.backOff(); got < want*time.Second/2 || got > want*time.Second*3/2 {
			t.Errorf("pause %d is %s", i, got)
		}
	}
}

// A listener that drops every connection gets fewer and fewer.
func TestAListenerThatDropsConnectionsIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 3 {
		pause := r.begin(t.Context())
		_ = r.accept().Close()
		if got := <-pause; got < time.Second<<i/2 {
			t.Errorf("pause %d is %s", i, got)
		}
	}
}

func TestAListenerThatHangsInTheHandshakeIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.listenAgain()                           // accepts by the kernel alone, and says nothing
	r.agent.dialTime = 500 * time.Millisecond // a busy machine connects within this time
	if _, err := r.agent.dial(t.Context()); errkind.Of(err) != errkind.TLS || !strings.Contains(err.Error(), "no answer within 500ms") {
		t.Error(err)
	}
	// Nor does it hold an agent that is stopped.
	r.agent.dialTime = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	pause := r.begin(ctx)
	cancel()
	<-pause
}

// A server that is no listener at all is refused with its reason, once, and not in a loop.
func TestAServerThatDoesNotSpeakTLSSaysWhy(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	r := newRig(t)
	r.agent.config.ClientAddress = server.Listener.Addr().String()
	for i := range 3 {
		if pause := r.agent.once(t.Context()); pause < time.Second<<i/2 {
			t.Errorf("pause %d is %s", i, pause)
		}
	}
	if r.logs.count("level=WARN") != 1 || r.logs.count("first record does not look like a TLS handshake") != 1 {
		t.Error(r.logs)
	}
}

func TestFailuresOfTheListenerAreLoggedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_ = r.listener.Close()
	for range 3 {
		r.agent.once(t.Context())
	}
	if r.logs.count("level=WARN") != 1 || r.logs.count("connection refused") != 1 {
		t.Error(r.logs)
	}
}

// A failure is logged once, so its text must not change with the time.
func TestTheTextOfAFailureHasNoTimeAndNoPort(t *testing.T) {
	t.Parallel()
	ca := connecttest.NewAuthority(t)
	pair := ca.IssueExpired(ServerName)
	block, _ := pem.Decode(pair.Certificate)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	text := func(now time.Time) string {
		_, err := cert.Verify(x509.VerifyOptions{CurrentTime: now, Roots: x509.NewCertPool()})
		return plain(fmt.Errorf("TLS handshake: %w", &tls.CertificateVerificationError{Err: err}))
	}
	now := time.Now()
	if a, b := text(now), text(now.Add(time.Second)); a != b || !strings.Contains(a, "certificate has expired or is not yet valid") {
		t.Errorf("%s\n%s", a, b)
	}
}

func TestCertificatesThatAreRefusedSayWhy(t *testing.T) {
	t.Parallel()
	other := connecttest.NewAuthority(t)
	for name, c := range map[string]struct {
		change func(*rig)
		want   string
	}{
		"own expired": {func(r *rig) {
			p := r.ca.IssueExpired("host-1")
			r.agent.config.TLS.Certificate, r.agent.config.TLS.Key = p.Certificate, p.Key
		}, "the certificate of this host has expired at "},
		"missing file": {func(r *rig) {
			r.agent.config.TLS.Certificate, r.agent.config.TLS.CertificateFile = nil, filepath.Join(r.t.TempDir(), "c.crt")
		}, "c.crt: no such file"},
		"foreign listener": {func(r *rig) { r.agent.config.TLS.CA = other.PEM }, "certificate signed by unknown authority"},
		"other name":       {func(r *rig) { r.agent.config.TLS.ServerName = "elsewhere" }, "not elsewhere"},
		"foreign host": {func(r *rig) {
			p := other.Issue("host-1")
			r.agent.config.TLS.Certificate, r.agent.config.TLS.Key = p.Certificate, p.Key
		}, "the listener refuses the certificate of this host: tls: "},
		"expired listener": {func(r *rig) { r.listenWith(serverSettings(r.ca, r.ca.IssueExpired(ServerName))) }, "certificate has expired"},
		"listener of TLS 1.2": {func(r *rig) {
			settings := serverSettings(r.ca, r.ca.Issue(ServerName))
			settings.MinVersion, settings.MaxVersion = 0, tls.VersionTLS12
			r.listenWith(settings)
		}, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c.change(r)
			go func() { // completes the handshake as far as it goes
				for {
					conn, err := r.listener.Accept()
					if err != nil {
						return
					}
					_ = conn.(*tls.Conn).Handshake()
					_ = conn.Close()
				}
			}()
			for range 2 {
				r.agent.once(t.Context())
			}
			if r.logs.count(c.want) != 1 || r.logs.count("level=WARN") != 1 {
				t.Errorf("want %q in\n%s", c.want, r.logs)
			}
		})
	}
}

// proxied is an HTTP proxy that answers as a test says.
func proxied(t *testing.T, answer func(net.Conn, *http.Request)) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		answer(conn, request)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

func tunnel(conn net.Conn, request *http.Request) {
	to, err := net.Dial("tcp", request.Host)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { _, _ = io.Copy(to, conn) }()
	_, _ = io.Copy(conn, to)
}

func TestTheAgentConnectsThroughAProxy(t *testing.T) {
	t.Parallel()
	for _, fromEnvironment := range []bool{false, true} {
		r := newRig(t)
		var credentials, asked string
		proxy := proxied(t, func(conn net.Conn, request *http.Request) {
			credentials, asked = request.Header.Get("Proxy-Authorization"), request.Method+" "+request.Host
			tunnel(conn, request)
		})
		proxy.User = url.UserPassword("u", "p")
		r.agent.config.Proxy = proxy.String()
		if fromEnvironment {
			r.agent.config.Proxy = ""
			r.agent.environmentProxy = func(request *http.Request) (*url.URL, error) {
				if request.URL.String() != "https://"+r.agent.config.ClientAddress {
					t.Errorf("the proxy for %s is asked for", request.URL)
				}
				return proxy, nil
			}
		}
		r.begin(t.Context())
		conn := r.accept()
		send(t, conn, "x")
		expect(t, r.daemon(), "x")
		if credentials != "Basic dTpw" || asked != "CONNECT "+r.agent.config.ClientAddress {
			t.Errorf("%q, %q", credentials, asked)
		}
	}
}

func TestAProxyThatRefusesSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ answer, want, hint string }{
		"credentials":  {"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", `it answers "407 Proxy Authentication Required"`, "USER:PASSWORD"},
		"policy":       {"HTTP/1.1 403 Forbidden\r\n\r\n", `it answers "403 Forbidden"`, ""},
		"not a proxy":  {"SSH-2.0-x\r\n", "its answer is not that of an HTTP proxy", ""},
		"endless":      {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 2*maxProxyHeader), "its answer is not that of an HTTP proxy", ""},
		"speaks first": {"HTTP/1.1 200 OK\r\n\r\nhello", "it sends bytes that nobody asked for", ""},
	} {
		r := newRig(t)
		proxy := proxied(t, func(conn net.Conn, _ *http.Request) { _, _ = io.WriteString(conn, c.answer) })
		r.agent.config.Proxy = "http://user:hidden@" + proxy.Host
		_, err := r.agent.dial(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(errkind.Hint(err), c.hint) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v (%s)", name, err, errkind.Hint(err))
		}
	}
	r := newRig(t)
	r.agent.config.Proxy, r.agent.dialTime = "http://"+r.listenAgain().Addr().String(), 50*time.Millisecond
	if _, err := r.agent.dial(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Error(err)
	}
	_ = r.listener.Close()
	if _, err := r.agent.dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) || !strings.HasPrefix(err.Error(), "proxy 127.0.0.1:") {
		t.Error(err)
	}
	r.agent.config.Proxy = "https://" + proxied(t, func(net.Conn, *http.Request) {}).Host // speaks no TLS
	if _, err := r.agent.dial(t.Context()); err == nil {
		t.Error("a proxy without TLS is an https proxy")
	}
}

func TestAProxyOfTheEnvironmentIsChecked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"socks5://user:hidden@a": "HTTPS_PROXY: must be the URL of an HTTP proxy", "": "HTTPS_PROXY is not the URL of a proxy"} {
		r := newRig(t)
		r.agent.config.Proxy = ""
		r.agent.environmentProxy = func(*http.Request) (*url.URL, error) {
			if text == "" {
				return nil, errors.New("hidden")
			}
			return url.Parse(text)
		}
		if _, err := r.agent.dial(t.Context()); errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Error(err)
		}
	}
	for text, want := range map[string]string{"http://a": "a:80", "https://a": "a:443", "http://[::1]:8": "[::1]:8"} {
		u, _ := parseProxy(text)
		if got := proxyAddress(u); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}
