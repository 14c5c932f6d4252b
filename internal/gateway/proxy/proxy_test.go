package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/gateway/audit"
	"github.com/trident-project/trident/internal/gateway/token"
)

var _ encoding.CodecV2 = rawCodec{}

func bytesOf(data ...byte) *frame { return &frame{data: mem.BufferSlice{mem.SliceBuffer(data)}} }

// call makes a unary call and returns its error.
func call(ctx context.Context, conn *grpc.ClientConn, method string, options ...grpc.CallOption) error {
	var out frame
	return conn.Invoke(ctx, method, bytesOf(1, 2), &out, options...)
}

func TestACallIsPassedOnAsItIs(t *testing.T) {
	f := newFixture(t, "")
	conn := f.dial(f.tls(f.ours.client(t, "trident://reader")))
	var header, trailer metadata.MD
	var out frame
	err := conn.Invoke(with(t, "x-own", "1", "trident-request-id", "r1"), version, bytesOf(7, 8, 9), &out, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || !bytes.Equal(out.data.Materialize(), []byte{7, 8, 9}) {
		t.Fatalf("answer %v, error %v", out.data.Materialize(), err)
	}
	if header.Get("asked-by")[0] != "uri:trident://reader" || trailer.Get("at-the-end")[0] != "1" || trailer.Get("seconds-left")[0] > "30" {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
	got := f.backend.seen()[0]
	if got.Get("x-own")[0] != "1" || got.Get("trident-request-id")[0] != "r1" || len(got.Get("authorization")) != 0 {
		t.Errorf("tridentd sees %v", got)
	}
	err = call(with(t), conn, getError, grpc.Trailer(&trailer))
	if status.Code(err) != codes.Aborted || status.Convert(err).Message() != "nothing works" || trailer.Get("at-the-end")[0] != "1" {
		t.Errorf("status %v, trailer %v", err, trailer)
	}
}

func TestAStreamIsPassedOnInBothDirections(t *testing.T) {
	f := newFixture(t, "")
	conn := f.dial(f.tls(f.ours.client(t, "trident://admin")))
	s, err := conn.NewStream(with(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, install)
	if err != nil {
		t.Fatal(err)
	}
	for i := range byte(50) {
		if err := s.SendMsg(bytesOf(i)); err != nil {
			t.Fatal(err)
		}
		var out frame
		if err := s.RecvMsg(&out); err != nil || out.data.Materialize()[0] != i {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&frame{}); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
}

func TestTheEndOfACallerEndsTheCallInTridentd(t *testing.T) {
	f := newFixture(t, "")
	conn := f.dial(f.tls(f.ours.client(t, "trident://reader")))
	ctx, cancel := context.WithCancel(with(t))
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, watchOp)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-f.backend.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call in tridentd ended with %v", err)
	}
	short, cancel := context.WithTimeout(with(t), 100*time.Millisecond)
	defer cancel()
	if err := call(short, conn, watchOp); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call over its deadline: %v", err)
	}
	if err := <-f.backend.ended; err == nil {
		t.Error("the call has ended at tridentd by itself")
	}
}

func TestAMessageOverTheLimitIsRefusedWithTheReason(t *testing.T) {
	f := newFixture(t, "")
	conn := f.dial(f.tls(f.ours.client(t, "trident://admin")))
	var out frame
	err := conn.Invoke(with(t), install, bytesOf(make([]byte, maxMessage+1)...), &out)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("too large: %v", err)
	}
	if err := conn.Invoke(with(t), install, bytesOf(make([]byte, maxMessage)...), &out); err != nil || out.data.Len() != maxMessage {
		t.Errorf("the largest: %d bytes, %v", out.data.Len(), err)
	}
}

func TestRightsDecide(t *testing.T) {
	f := newFixture(t, "")
	for _, tt := range []struct {
		who, method string
		code        codes.Code
	}{
		{"trident://reader", version, codes.OK},
		{"trident://reader", update, codes.PermissionDenied},
		{"trident://reader", getConfig, codes.PermissionDenied},
		{"trident://ops/one", version, codes.OK},
		{"trident://ops/one", update, codes.OK},
		{"trident://ops/one", getConfig, codes.PermissionDenied},
		{"trident://ops/one", install, codes.PermissionDenied},
		{"trident://ops", version, codes.PermissionDenied},
		{"trident://admin", install, codes.OK},
		{"trident://admin", getConfig, codes.OK},
		{"trident://admin/more", version, codes.PermissionDenied},
		{"trident://admin", "/trident.v1.VersionService/Version?access_token=abc", codes.PermissionDenied},
		{"trident://admin", "/trident.v9.NewService/New", codes.PermissionDenied},
	} {
		before := len(f.backend.seen())
		err := call(with(t), f.dial(f.tls(f.ours.client(t, tt.who))), tt.method)
		if status.Code(err) != tt.code || (len(f.backend.seen()) > before) != (tt.code == codes.OK) {
			t.Errorf("%s calls %s: %v", tt.who, tt.method, err)
		}
		if tt.code != codes.OK && len(status.Convert(err).Details()) == 0 {
			t.Errorf("%s calls %s: no hint in %v", tt.who, tt.method, err)
		}
	}
	if strings.Contains(f.log.String(), "abc") {
		t.Error("a token in a URL is in the log")
	}
}

func TestCertificatesThatDoNotCount(t *testing.T) {
	f := newFixture(t, "revoked: {serials: [\"0A:BC\"], identities: [\"uri:trident://ops/gone\"]}\n")
	theirs := newAuthority(t)
	for name, tt := range map[string]struct {
		cert tls.Certificate
		want string
	}{
		"expired":          {f.ours.client(t, "trident://reader", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "expired"},
		"foreign":          {theirs.client(t, "trident://reader"), "unknown authority"},
		"for servers":      {f.ours.client(t, "trident://reader", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "usage"},
		"without a name":   {f.ours.client(t, ""), "no subject alternative name"},
		"with two names":   {f.ours.client(t, "trident://reader", func(c *x509.Certificate) { c.URIs = append(c.URIs, &url.URL{Scheme: "trident", Host: "admin"}) }), "2 names"},
		"serial revoked":   {f.ours.client(t, "trident://reader", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0xabc) }), "revoked"},
		"identity revoked": {f.ours.client(t, "trident://ops/gone"), "revoked"},
		"with a star":      {f.ours.client(t, "trident://ops/*"), "star"},
	} {
		err := call(with(t), f.dial(f.tls(tt.cert)), version)
		if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(f.backend.seen()); n != 0 {
		t.Errorf("%d calls reached tridentd", n)
	}
	if text := f.log.String(); !strings.Contains(text, `msg="login refused" peer=127.0.0.1:`) { // one line a second
		t.Errorf("the log: %s", text)
	}
	if err := call(with(t), f.dial(f.tls(f.ours.client(t, "", func(c *x509.Certificate) { c.DNSNames = []string{"a.example.org"} }))), version); err != nil {
		t.Errorf("a DNS name: %v", err)
	}
}

func TestTokens(t *testing.T) {
	f := newFixture(t, "revoked: {identities: [\"token:banned\"]}\n")
	good, old := f.addToken("ci", time.Hour, "operate"), f.addToken("old", -time.Minute, "read")
	banned := f.addToken("banned", time.Hour, "read")
	conn := func() *grpc.ClientConn { return f.dial(f.tls()) }
	if err := call(with(t, "authorization", "Bearer "+good), conn(), update); err != nil {
		t.Errorf("a valid token: %v", err)
	}
	if got := f.backend.seen()[0]; got.Get("trident-asked-by")[0] != "token:ci" || len(got.Get("authorization")) != 0 {
		t.Errorf("tridentd sees %v", got)
	}
	for name, tt := range map[string]struct {
		header []string
		want   string
	}{
		"none":            {nil, "neither"},
		"unknown":         {[]string{"Bearer trident_x"}, "not known"},
		"expired":         {[]string{"Bearer " + old}, "expired"},
		"revoked by name": {[]string{"Bearer " + banned}, "revoked"},
		"basic":           {[]string{"Basic " + good}, "not one Bearer"},
		"twice":           {[]string{"Bearer " + good, "Bearer " + good}, "not one Bearer"},
		"empty":           {[]string{"Bearer "}, "not one Bearer"},
	} {
		var pairs []string
		for _, v := range tt.header {
			pairs = append(pairs, "authorization", v)
		}
		if err := call(with(t, pairs...), conn(), version); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := call(with(t, "authorization", "Bearer "+good), f.dial(f.tls(f.ours.client(t, "trident://admin"))), version); status.Code(err) != codes.Unauthenticated {
		t.Errorf("both credentials: %v", err)
	}
	// A token that is revoked ends the connection that used it, and counts no more.
	open := conn()
	s, err := open.NewStream(with(t, "authorization", "Bearer "+good), &grpc.StreamDesc{ServerStreams: true}, watchOp)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	l, _ := token.Read(f.path("tokens"))
	if err := errors.Join(l.Revoke("ci", time.Now()), l.Write(f.path("tokens"), os.Getegid()), f.server.Reload()); err != nil {
		t.Fatal(err)
	}
	if err := <-f.backend.ended; err == nil {
		t.Error("the call has ended at tridentd by itself")
	}
	open.WaitForStateChange(t.Context(), connectivity.Ready) // until the client has seen the end, too
	if err := call(with(t, "authorization", "Bearer "+good), open, version); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a revoked token: %v", err)
	}
	for _, secret := range []string{good, old, banned} {
		text := f.log.String()
		for _, e := range f.entries() {
			text += e.Reason
		}
		if strings.Contains(text, secret[8:]) {
			t.Error("a token is in a log")
		}
	}
}

func TestAConnectionHasOneIdentity(t *testing.T) {
	f := newFixture(t, "")
	a, b := f.addToken("a", time.Hour, "read"), f.addToken("b", time.Hour, "read")
	conn := f.dial(f.tls())
	if err := call(with(t, "authorization", "Bearer "+a), conn, version); err != nil {
		t.Fatal(err)
	}
	if err := call(with(t, "authorization", "Bearer "+b), conn, version); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "belongs to token:a") {
		t.Errorf("the token of another: %v", err)
	}
	if err := call(with(t), conn, version); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a call without a token after one with a token: %v", err)
	}
}

func TestAnIdentityInTheMetadataIsRefused(t *testing.T) {
	f := newFixture(t, "")
	err := call(with(t, "trident-asked-by", "uri:trident://admin"), f.dial(f.tls(f.ours.client(t, "trident://reader"))), version)
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "may not name an identity") || len(f.backend.seen()) != 0 {
		t.Errorf("error %v, tridentd saw %v", err, f.backend.seen())
	}
}

func TestStrangersOnThePort(t *testing.T) {
	f := newFixture(t, "limits: {perSource: 4, handshakeTime: 300ms}\n", func(s *Server) { s.refusedTime = 0 })
	own := f.dial(f.tls(f.ours.client(t, "trident://reader")))
	if err := call(with(t), own, version); err != nil {
		t.Fatal(err)
	}
	raw := func() net.Conn {
		conn, err := net.Dial("tcp", f.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}
	scan := raw()
	_ = scan.Close()
	plain := raw()
	if _, err := io.WriteString(plain, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(plain), nil); err != nil || resp.StatusCode != 400 {
		t.Errorf("plain HTTP: %v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	old := f.tls()
	old.MaxVersion = tls.VersionTLS12
	if _, err := tls.Dial("tcp", f.address, old); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v", err)
	}
	web := f.tls()
	web.NextProtos = []string{"http/1.1"}
	if conn, err := tls.Dial("tcp", f.address, web); err == nil {
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if answer, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) || bytes.Contains(answer, []byte("HTTP/1.1 200")) {
			t.Errorf("HTTP/1.1 over TLS: %q, %v", answer, err)
		}
	}
	// Half-open connections take the places of their source, and no longer than the deadline,
	// at whatever point they stop.
	silent, err := tls.Dial("tcp", f.address, f.tls())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	_ = silent.SetDeadline(time.Now().Add(20 * time.Second))
	half := []net.Conn{silent}
	for i := range 8 {
		conn := raw()
		if i%2 == 0 {
			if _, err := conn.Write([]byte{22, 3, 1}); err != nil { // a handshake begins like this
				t.Fatal(err)
			}
		}
		half = append(half, conn)
	}
	if err := call(with(t), own, version); err != nil {
		t.Errorf("a caller beside them: %v", err)
	}
	for _, conn := range half {
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a half-open connection stays open")
		}
	}
	if err := call(with(t), f.dial(f.tls(f.ours.client(t, "trident://reader"))), version); err != nil {
		t.Errorf("a caller after them: %v", err)
	}
	for _, want := range []string{"does not speak TLS", "unsupported versions", "have not logged in", "the caller ended the connection"} {
		if !strings.Contains(f.log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

func TestLimitsOfAnIdentity(t *testing.T) {
	f := newFixture(t, "limits: {perIdentity: {callsPerSecond: 5, streams: 2, connections: 2}}\n")
	cert := f.ours.client(t, "trident://reader")
	conn := f.dial(f.tls(cert))
	for range 2 {
		s, err := conn.NewStream(with(t), &grpc.StreamDesc{ServerStreams: true}, watchOp)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Header(); err != nil {
			t.Fatal(err)
		}
	}
	if err := call(with(t), conn, version); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a third stream: %v", err)
	}
	other := f.dial(f.tls(f.ours.client(t, "trident://ops/x")))
	limited := 0
	for range 20 {
		if err := call(with(t), other, version); status.Code(err) == codes.Unavailable {
			limited++
		}
	}
	if limited == 0 || limited > 10 {
		t.Errorf("%d of 20 calls were refused", limited)
	}
	second, third := f.dial(f.tls(cert)), f.dial(f.tls(cert))
	_ = call(with(t), second, version)
	if err := call(with(t), third, version); !strings.Contains(err.Error(), "2 connections") {
		t.Errorf("a third connection: %v", err)
	}
}

func TestFailedLoginsAreSlowedAndNobodyElse(t *testing.T) {
	f := newFixture(t, "limits: {failedLogins: 3}\n")
	bad, good := f.dial(f.tls()), f.dial(f.tls(f.ours.client(t, "trident://reader")))
	began := time.Now()
	for range 5 {
		if err := call(with(t, "authorization", "Bearer wrong"), bad, version); status.Code(err) != codes.Unauthenticated {
			t.Fatal(err)
		}
	}
	if d := time.Since(began); d < 250*time.Millisecond {
		t.Errorf("5 failed logins in %s", d)
	}
	if err := call(with(t), good, version); err != nil {
		t.Error(err)
	}
}

func TestACallerHasOneConnectionToTridentd(t *testing.T) {
	f := newFixture(t, "")
	idle := f.dial(f.tls(f.ours.client(t, "trident://reader")))
	idle.Connect()
	conn := f.dial(f.tls(f.ours.client(t, "trident://reader")))
	for range 5 {
		if err := call(with(t), conn, version); err != nil {
			t.Fatal(err)
		}
	}
	f.backend.mu.Lock()
	conns := f.backend.conns
	f.backend.mu.Unlock()
	if conns != 1 {
		t.Errorf("%d connections to tridentd", conns)
	}
}

// A caller notices that tridentd has ended by the end of its own connection, and its next
// call waits until tridentd is there again.
func TestTridentdEndsAndComesBack(t *testing.T) {
	f := newFixture(t, "")
	conn := f.dial(f.tls(f.ours.client(t, "trident://reader")))
	if err := call(with(t), conn, version); err != nil {
		t.Fatal(err)
	}
	state := conn.GetState()
	f.backend.grpc.Stop()
	if !conn.WaitForStateChange(with(t), state) {
		t.Fatal("the connection of the caller stays")
	}
	answer := make(chan error, 1)
	go func() { answer <- call(with(t), conn, version) }()
	for { // until the gateway has asked for tridentd
		if info, err := os.Stat(f.path("wake")); err == nil && info.Size() > 0 {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("nobody asked for tridentd")
		}
	}
	f.startBackend()
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

func TestFilesAreReloaded(t *testing.T) {
	f := newFixture(t, "")
	cert := f.ours.client(t, "trident://new")
	if err := call(with(t), f.dial(f.tls(cert)), version); status.Code(err) != codes.PermissionDenied {
		t.Fatal(err)
	}
	f.configure("rights: [{identity: \"uri:trident://new\", rights: [read]}]\n")
	newCert, newKey := f.ours.server(t)
	f.write("server.crt", newCert)
	f.write("server.key", newKey)
	if err := f.server.Reload(); err != nil {
		t.Fatal(err)
	}
	var got []byte
	config := f.tls(cert)
	config.VerifyConnection = func(s tls.ConnectionState) error { got = s.PeerCertificates[0].Raw; return nil }
	if err := call(with(t), f.dial(config), version); err != nil {
		t.Error(err)
	}
	if !bytes.Contains(newCert, []byte("CERTIFICATE")) || len(got) == 0 {
		t.Error("no certificate")
	}
	f.write("gateway.yaml", []byte("lisen: []\n"))
	if err := f.server.Reload(); err == nil || !strings.Contains(err.Error(), "lisen") {
		t.Errorf("a wrong file: %v", err)
	}
	if err := call(with(t), f.dial(f.tls(cert)), version); err != nil {
		t.Errorf("after a wrong file: %v", err)
	}
}

func TestTheAuditLogHasOneLineForEachCall(t *testing.T) {
	f := newFixture(t, "")
	conn := f.dial(f.tls(f.ours.client(t, "trident://reader")))
	_ = call(with(t), conn, version)
	_ = call(with(t), conn, update)
	_ = call(with(t), f.dial(f.tls()), version)
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	e := f.entries()
	if len(e) != 3 {
		t.Fatalf("%d lines: %+v", len(e), e)
	}
	if e[0].Identity != "uri:trident://reader" || e[0].By != "certificate" || e[0].Method != version || e[0].Right != "read" || e[0].Result != "OK" || e[0].Serial == "" || e[0].Peer == "" {
		t.Errorf("the call: %+v", e[0])
	}
	if e[1].Result != "PermissionDenied" || !strings.Contains(e[1].Reason, "needs the right operate") {
		t.Errorf("the refused call: %+v", e[1])
	}
	if e[2].Identity != "" || e[2].Result != "Unauthenticated" {
		t.Errorf("the call without a login: %+v", e[2])
	}
}

func TestBytesOfAnIdentityAreBounded(t *testing.T) {
	f := newFixture(t, "limits: {perIdentity: {bytesPerSecond: 100000}}\n")
	conn := f.dial(f.tls(f.ours.client(t, "trident://admin")))
	begin := time.Now()
	var out frame
	if err := conn.Invoke(with(t), install, bytesOf(make([]byte, 60000)...), &out); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 150*time.Millisecond { // 120,000 bytes in both directions
		t.Errorf("120,000 bytes took %s", d)
	}
	short, cancel := context.WithTimeout(with(t), 50*time.Millisecond)
	defer cancel()
	if err := conn.Invoke(short, install, bytesOf(make([]byte, 60000)...), &out); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a caller who does not wait: %v", err)
	}
}

// A certificate that ends while its connection is open ends the connection.
func TestACertificateEndsWithItsConnection(t *testing.T) {
	f := newFixture(t, "")
	conn := f.dial(f.tls(f.ours.client(t, "trident://reader")))
	s, err := conn.NewStream(with(t), &grpc.StreamDesc{ServerStreams: true}, watchOp)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(2 * time.Hour)
	st := f.server.state.Load()
	open := f.server.open()
	if len(open) != 1 || open[0].invalidity(st, time.Now()) != "" || !strings.Contains(open[0].invalidity(st, later), "expired") {
		t.Errorf("%d connections", len(open))
	}
	if set := st.rightsOf(open[0].login, later); set != 0 {
		t.Errorf("an expired certificate has %s", set)
	}
}

func TestStopWaitsForRunningCallsAndRefusesNewOnes(t *testing.T) {
	f := newFixture(t, "")
	conn := f.dial(f.tls(f.ours.client(t, "trident://admin")))
	s, err := conn.NewStream(with(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, install)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	half, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- f.stop() }()
	if _, err := io.ReadAll(half); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err := s.SendMsg(bytesOf(5)); err != nil {
		t.Fatal(err)
	}
	var out frame
	if err := s.RecvMsg(&out); err != nil || out.data.Materialize()[0] != 5 {
		t.Errorf("a running call: %v", err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&frame{}); !errors.Is(err, io.EOF) {
		t.Errorf("its end: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(with(t), 500*time.Millisecond)
	defer cancel()
	if err := call(short, conn, version); err == nil {
		t.Error("a stopped gateway serves")
	}
}

func TestALineThatTheAuditLogRefusesIsInTheLog(t *testing.T) {
	f := newFixture(t, "")
	conn := f.dial(f.tls(f.ours.client(t, "trident://reader")))
	if err := f.server.audit.Close(); err != nil {
		t.Fatal(err)
	}
	if err := call(with(t), conn, version); err != nil {
		t.Errorf("the call: %v", err)
	}
	if !strings.Contains(f.log.String(), "the audit log refuses a line") || !strings.Contains(f.log.String(), "uri:trident://reader") {
		t.Error("the line is lost")
	}
	var err error
	if f.server.audit, err = audit.Open(f.path("audit.log"), 1<<20, 1); err != nil { // for the end of the test
		t.Fatal(err)
	}
}

func TestTridentdThatIsNotThere(t *testing.T) {
	for name, wake := range map[string]string{"nothing starts it": "", "a wake file that cannot be written": filepath.Join(t.TempDir(), "no", "folder")} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "", func(s *Server) { s.againTime, s.wake = 50*time.Millisecond, wake })
			conn := f.dial(f.tls(f.ours.client(t, "trident://reader")))
			f.backend.grpc.Stop()
			err := call(with(t), conn, version)
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "reach tridentd") || len(status.Convert(err).Details()) == 0 {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestWhatIsNoGateway(t *testing.T) {
	f := newFixture(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, settings := range map[string]string{
		"a broken file":          "listen: x\n",
		"no place for the audit": "audit: {file: /dev/null/x}\n",
	} {
		f.write("other.yaml", []byte("tls: {certificate: "+f.path("server.crt")+", key: "+f.path("server.key")+", clientCA: "+f.path("ca.crt")+"}\n"+settings))
		if _, err := New(Files{Settings: f.path("other.yaml")}, nil, f.server.logger); err == nil {
			t.Errorf("%s: a gateway was made", name)
		}
	}
	f.write("other.yaml", []byte("listen: [\"127.0.0.1:0\", \""+l.Addr().String()+"\"]\naudit: {file: "+f.path("a2")+"}\ntls: {certificate: "+f.path("server.crt")+", key: "+f.path("server.key")+", clientCA: "+f.path("ca.crt")+"}\n"))
	s, err := New(Files{Settings: f.path("other.yaml")}, nil, f.server.logger)
	if err != nil {
		t.Fatal(err)
	}
	defer s.audit.Close()
	if _, err := s.Listen(t.Context()); err == nil {
		t.Error("it listens on an address of another program")
	}
}

func TestStrangersDoNotFillTheAuditLog(t *testing.T) {
	f := newFixture(t, "limits: {failedLogins: 1000}\n")
	conn := f.dial(f.tls())
	for range 30 {
		if err := call(with(t), conn, version); status.Code(err) != codes.Unauthenticated {
			t.Fatal(err)
		}
	}
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(f.entries()); n == 0 || n > 15 {
		t.Errorf("%d lines about 30 calls", n)
	}
}
