package proxy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/gateway/audit"
	"github.com/trident-project/trident/internal/gateway/page"
	"github.com/trident-project/trident/internal/gateway/token"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) sign(t testing.TB, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if c.SerialNumber == nil {
		c.SerialNumber = big.NewInt(time.Now().UnixNano())
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	c.NotBefore, c.Subject = time.Now().Add(-2*time.Hour), pkix.Name{CommonName: "test"}
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// client returns the certificate of a client with a URI.
func (a *authority) client(t testing.TB, uri string, change ...func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	c := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = []*url.URL{u}
	}
	for _, f := range change {
		f(c)
	}
	cert, key := a.sign(t, c)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (a *authority) server(t testing.TB) (cert, key []byte) {
	t.Helper()
	c, k := a.sign(t, &x509.Certificate{DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// backend is a server in place of tridentd. It answers every method: it sends the metadata
// of the call as a header, each message back, and a trailer; the method Fail fails, the
// method Wait waits for its caller.
type backend struct {
	grpc *grpc.Server

	mu    sync.Mutex
	calls []metadata.MD
	conns int
	ended chan error // one for each ended Wait
}

func (b *backend) handle(_ any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	b.mu.Lock()
	b.calls = append(b.calls, md.Copy())
	b.mu.Unlock()
	if err := stream.SendHeader(metadata.Pairs("seen-by", "backend", "asked-by", strings.Join(md.Get("trident-asked-by"), ","))); err != nil {
		return err
	}
	stream.SetTrailer(metadata.Pairs("at-the-end", "1"))
	method, _ := grpc.MethodFromServerStream(stream)
	switch {
	case strings.HasSuffix(method, "/GetLastError"):
		st, _ := status.New(codes.Aborted, "nothing works").WithDetails()
		return st.Err()
	case strings.HasSuffix(method, "/Watch"):
		<-stream.Context().Done()
		b.ended <- stream.Context().Err()
		return stream.Context().Err()
	}
	if deadline, ok := stream.Context().Deadline(); ok {
		stream.SetTrailer(metadata.Pairs("seconds-left", fmt.Sprintf("%.0f", time.Until(deadline).Seconds())))
	}
	for {
		var f frame
		if err := stream.RecvMsg(&f); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&f); err != nil {
			return err
		}
	}
}

// counted counts the connections of a listener.
type counted struct {
	net.Listener
	backend *backend
}

func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.backend.mu.Lock()
		c.backend.conns++
		c.backend.mu.Unlock()
	}
	return conn, err
}

// journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}
func (j *journal) String() string { j.mu.Lock(); defer j.mu.Unlock(); return j.text.String() }

// fixture is a gateway before a backend.
type fixture struct {
	t       testing.TB
	dir     string
	ours    *authority
	server  *Server
	address string
	backend *backend
	log     *journal
	stop    func() error
}

const policyText = `rights:
- {identity: "uri:trident://reader", rights: [read]}
- {identity: "uri:trident://ops/*", rights: [operate]}
- {identity: "uri:trident://admin", rights: [admin]}
- {identity: "dns:*.example.org", rights: [read]}
`

func newFixture(t testing.TB, settings string, changes ...func(*Server)) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), ours: newAuthority(t), log: &journal{}, backend: &backend{ended: make(chan error, 64)}}
	cert, key := f.ours.server(t)
	f.write("server.crt", cert)
	f.write("server.key", key)
	f.write("ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.ours.cert.Raw}))
	f.configure(settings)
	f.startBackend()
	browser, err := page.New()
	if err != nil {
		t.Fatal(err)
	}
	f.server, err = New(Files{Settings: f.path("gateway.yaml"), Wake: f.path("wake"), Console: f.path("console.json")}, browser, slog.New(slog.NewTextHandler(f.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(f.server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l, err := f.server.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.address = l[0].Addr().String()
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(ctx, l...) }()
	f.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		f.backend.grpc.Stop()
		if t.Failed() {
			t.Logf("log:\n%s", f.log)
		}
	})
	return f
}

func (f *fixture) startBackend() {
	f.t.Helper()
	_ = os.Remove(f.path("s"))
	l, err := net.Listen("unix", f.path("s"))
	if err != nil {
		f.t.Fatal(err)
	}
	g := grpc.NewServer(grpc.UnknownServiceHandler(f.backend.handle), grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(maxMessage))
	f.backend.grpc = g
	go func() { _ = g.Serve(counted{l, f.backend}) }()
}

// configure writes the settings: the given ones, and the policy unless they have one.
func (f *fixture) configure(settings string) {
	f.t.Helper()
	text := fmt.Sprintf("listen: [\"127.0.0.1:0\"]\nsocket: %s\ntls: {certificate: %s, key: %s, clientCA: %s}\ntokens: %s\naudit: {file: %s}\n",
		f.path("s"), f.path("server.crt"), f.path("server.key"), f.path("ca.crt"), f.path("tokens"), f.path("audit.log")) + settings
	if !strings.Contains(settings, "http:") {
		text += "http: {passphrases: " + f.path("passphrases") + "}\n"
	}
	if !strings.Contains(settings, "rights:") {
		text += policyText
	}
	f.write("gateway.yaml", []byte(text))
}

func (f *fixture) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fixture) write(name string, data []byte) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), data, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// addToken adds a token and reloads the gateway.
func (f *fixture) addToken(name string, life time.Duration, names ...string) string {
	f.t.Helper()
	l, err := token.Read(f.path("tokens"))
	if err != nil {
		f.t.Fatal(err)
	}
	text, err := l.Add(name, names, time.Now().Add(-time.Hour), life+time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := errors.Join(l.Write(f.path("tokens"), os.Getegid()), f.server.Reload()); err != nil {
		f.t.Fatal(err)
	}
	return text
}

func (f *fixture) tls(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: f.ours.pool(), ServerName: "localhost", Certificates: certs, NextProtos: []string{"h2"}}
}

// dial returns a connection to the gateway.
func (f *fixture) dial(config *tls.Config) *grpc.ClientConn {
	f.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+f.address, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallSendMsgSize(64<<20)), grpc.WithDisableRetry())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// with returns metadata of a call.
func with(t testing.TB, pairs ...string) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

const (
	version   = "/trident.v1.VersionService/Version"
	getError  = "/trident.v1preview.StatusService/GetLastError"
	getConfig = "/trident.v1preview.StatusService/GetProvisionedConfig"
	update    = "/trident.v1.UpdateService/Update"
	install   = "/trident.v1preview.InstallService/Install"
	watchOp   = "/trident.operations.v1.OperationsService/Watch"
)

// entries returns the audit log.
func (f *fixture) entries() []audit.Entry {
	f.t.Helper()
	text, err := os.ReadFile(f.path("audit.log"))
	if err != nil {
		f.t.Fatal(err)
	}
	var out []audit.Entry
	for line := range strings.Lines(string(text)) {
		var e audit.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			f.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func (b *backend) seen() []metadata.MD { b.mu.Lock(); defer b.mu.Unlock(); return b.calls }
