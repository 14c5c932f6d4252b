package proxy

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/trident-project/trident/internal/gateway/password"
)

// browser returns a client that offers both protocols, as browsers do.
func (f *fixture) browser(certs ...tls.Certificate) *http.Client {
	c := f.tls(certs...)
	c.NextProtos = []string{"h2", "http/1.1"}
	t := &http.Transport{TLSClientConfig: c}
	f.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// ask calls a method and returns the HTTP status and the body of the answer.
func (f *fixture) ask(c *http.Client, method, token string) (int, string) {
	f.t.Helper()
	body := method
	if !strings.HasPrefix(body, "{") {
		body = fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"id":1}`, method)
	}
	r, err := http.NewRequestWithContext(f.t.Context(), "POST", "https://"+f.address+"/rpc", strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	if resp.ProtoMajor != 1 {
		f.t.Errorf("the gateway speaks %s", resp.Proto)
	}
	return resp.StatusCode, string(data)
}

func (f *fixture) setPassphrase(name, text string) {
	f.t.Helper()
	l, err := password.Read(f.path("passphrases"))
	if err == nil {
		err = l.Set(name, text, time.Now())
	}
	if err := errors.Join(err, l.Write(f.path("passphrases"), os.Getegid()), f.server.Reload()); err != nil {
		f.t.Fatal(err)
	}
}

const passphraseRights = policyText + "- {identity: \"passphrase:admin\", rights: [operate]}\n"

func TestJSONRPCHasTheIdentityRightsAndAuditOfGRPC(t *testing.T) {
	f := newFixture(t, "")
	token := f.addToken("ci", time.Hour, "read")
	c, reader := f.browser(), f.browser(f.ours.client(t, "trident://reader"))
	for _, tt := range []struct {
		client        *http.Client
		method, token string
		code          int
		want          string
	}{
		{c, "version", token, 200, `"result":{"version":""}`},
		{c, "system_load.current", token, 200, `"load15"`},
		{c, "self.rollback", token, 200, `"code":7,"message":"call /trident.self.v1.SelfService/Rollback for token:ci: it needs the right operate`},
		{c, "version", "", 200, `"code":16`},
		{c, "system_load.current", "", 200, `"code":16`},
		{c, "version", "trident_x", 401, "the token is not known"},
		{c, "version", "trident-session_x", 401, "log in again"},
		{c, "version", token, 200, `"result"`}, // on the connection of the refused request
		{reader, "version", "", 200, `"result":{"version":""}`},
		{reader, "version", token, 401, "both a client certificate and a token"},
		{reader, "self.rollback", "", 200, `for uri:trident://reader`},
		{f.browser(f.ours.client(t, "trident://nobody")), "system_load.current", "", 200, `"code":7`},
		{f.browser(newAuthority(t).client(t, "trident://admin")), "version", "", 401, "verify the client certificate"},
		{f.browser(f.ours.client(t, "trident://admin", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })), "version", "", 401, "expired"},
	} {
		if code, got := f.ask(tt.client, tt.method, tt.token); code != tt.code || !strings.Contains(strings.ReplaceAll(got, `": "`, `":"`), tt.want) {
			t.Errorf("%s with %.20q: %d %s", tt.method, tt.token, code, got)
		}
	}
	if code, got := f.ask(c, `{"jsonrpc":"2.0","method":"version","id":1}`, ""); code != 200 || !strings.Contains(got, `"code":16`) {
		t.Errorf("the login of a request is that of the next one: %s", got)
	}
	for _, md := range f.backend.seen() {
		if who := md.Get("trident-asked-by"); len(who) != 1 || len(md.Get("authorization")) != 0 {
			t.Errorf("tridentd got %v", md)
		}
	}
	var lines []string
	for _, e := range f.entries() {
		if strings.Contains(fmt.Sprintf("%+v", e), token) {
			t.Error("the audit log has the token")
		}
		lines = append(lines, strings.Join([]string{e.Identity, e.By, e.Method, e.RPC, e.Right, e.Result}, "|"))
	}
	for _, want := range []string{
		"token:ci|token|/trident.v1.VersionService/Version|version|read|OK",
		"token:ci|token||system_load.current|read|OK",
		"token:ci|token|/trident.self.v1.SelfService/Rollback|self.rollback|operate|PermissionDenied",
		"uri:trident://reader|certificate|/trident.v1.VersionService/Version|version|read|OK",
	} {
		if !strings.Contains(strings.Join(lines, "\n"), want) {
			t.Errorf("the audit log lacks %s:\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

// Two tabs of a browser use one connection with two tokens.
func TestEachRequestHasItsOwnLogin(t *testing.T) {
	f := newFixture(t, "")
	one, two, c := f.addToken("one", time.Hour, "read"), f.addToken("two", time.Hour, "read"), f.browser()
	for range 3 {
		for name, token := range map[string]string{"one": one, "two": two} {
			if code, got := f.ask(c, "version", token); code != 200 {
				t.Fatalf("%d %s", code, got)
			}
			seen := f.backend.seen()
			if who := seen[len(seen)-1].Get("trident-asked-by"); who[0] != "token:"+name {
				t.Errorf("tridentd was called for %s, not %s", who, name)
			}
		}
	}
}

func TestAPassphraseLogsInForATime(t *testing.T) {
	f := newFixture(t, passphraseRights)
	const text = "correct horse battery"
	f.setPassphrase("admin", text)
	c := f.browser()
	login := func(text string) (token, answer string) {
		t.Helper()
		_, answer = f.ask(c, fmt.Sprintf(`{"jsonrpc":"2.0","method":"authenticate","params":[%q],"id":1}`, text), "")
		var a struct {
			Result struct{ Token, Identity, Rights string }
		}
		if err := json.Unmarshal([]byte(answer), &a); err != nil {
			t.Fatal(err)
		}
		return a.Result.Token, answer
	}
	token, answer := login(text)
	if !strings.Contains(answer, `"identity":"passphrase:admin","rights":"read, operate"`) || !strings.HasPrefix(token, password.TokenPrefix) {
		t.Fatal(answer)
	}
	if code, got := f.ask(c, "version", token); code != 200 || !strings.Contains(got, "result") {
		t.Errorf("%d %s", code, got)
	}
	// gRPC accepts the token, too.
	if err := call(with(t, "authorization", "Bearer "+token), f.dial(f.tls()), version); err != nil {
		t.Error(err)
	}
	if none, answer := login("correct horse batterx"); none != "" || !strings.Contains(answer, `"code":7`) {
		t.Error(answer)
	}
	f.setPassphrase("admin", text+"!")
	if code, got := f.ask(c, "version", token); code != 401 || !strings.Contains(got, "log in again") {
		t.Errorf("after a change of the passphrase: %d %s", code, got)
	}
	if strings.Contains(f.log.String(), text) || strings.Contains(f.log.String(), token) {
		t.Error("the journal has a secret")
	}
	for _, e := range f.entries() {
		if e.RPC == "authenticate" && e.Result == "OK" && e.Identity == "passphrase:admin" {
			return
		}
	}
	t.Error("the audit log lacks the login")
}

func (f *fixture) socket(header http.Header) (*websocket.Conn, error) {
	c, resp, err := websocket.Dial(f.t.Context(), "wss://"+f.address+"/rpc", &websocket.DialOptions{HTTPClient: f.browser(), HTTPHeader: header})
	if resp != nil && resp.Body != nil { // of a refusal
		defer resp.Body.Close()
	}
	if err == nil {
		f.t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, err
}

func roundTrip(t *testing.T, c *websocket.Conn, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	_, data, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const callVersion = `{"jsonrpc":"2.0","method":"version","id":1}`

// A WebSocket outlives tridentd, and ends with its login.
func TestAWebSocketEndsWithItsLogin(t *testing.T) {
	f := newFixture(t, passphraseRights)
	f.setPassphrase("admin", "correct horse battery")
	c, err := f.socket(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := roundTrip(t, c, `{"jsonrpc":"2.0","method":"authenticate","params":{"passphrase":"correct horse battery","name":"admin"},"id":1}`); !strings.Contains(got, "passphrase:admin") {
		t.Fatal(got)
	}
	if got := roundTrip(t, c, callVersion); !strings.Contains(got, `"result"`) {
		t.Fatal(got)
	}
	f.backend.grpc.Stop()
	f.startBackend()
	got := roundTrip(t, c, callVersion)
	for deadline := time.Now().Add(30 * time.Second); strings.Contains(got, `"code":14`) && time.Now().Before(deadline); {
		got = roundTrip(t, c, callVersion) // the gateway may not know yet that tridentd has ended
	}
	if !strings.Contains(got, `"result"`) {
		t.Errorf("after a restart of tridentd: %s", got)
	}
	if got := roundTrip(t, c, `{"jsonrpc":"2.0","method":"authenticate","params":{"token":"`+f.addToken("ci", time.Hour, "admin")+`"},"id":1}`); !strings.Contains(got, "this connection belongs to passphrase:admin") {
		t.Errorf("another login: %s", got)
	}
	f.setPassphrase("admin", "another passphrase")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("after a change of the passphrase: %v", err)
	}
}

func TestLimitsOfAnIdentityHoldForJSONRPC(t *testing.T) {
	f := newFixture(t, "limits: {perIdentity: {callsPerSecond: 1, connections: 1}}\n")
	token := f.addToken("ci", time.Hour, "read")
	c, err := f.socket(http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for range 10 {
		if strings.Contains(roundTrip(t, c, callVersion), "more than 1 calls a second") {
			refused++
		}
	}
	if refused < 5 {
		t.Errorf("%d of 10 calls are refused", refused)
	}
	if code, got := f.ask(f.browser(), "version", token); code != 429 || !strings.Contains(got, "which is the most") {
		t.Errorf("a second connection: %d %s", code, got)
	}
}

func TestTheNamesOfTheCertificateAreHosts(t *testing.T) {
	f := newFixture(t, "http: {hosts: [panel.example.org], origins: [\"https://other.example.org\"], passphrases: /nowhere}\n")
	for host, code := range map[string]int{"localhost": 200, "panel.example.org:7443": 200, "evil.example.org": 403} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "https://"+f.address+"/openrpc.json", nil)
		r.Host = host
		resp, err := f.browser().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != code {
			t.Errorf("%s: %s", host, resp.Status)
		}
	}
}

// A caller without ALPN speaks either protocol; one that says nothing is ended.
func TestWithoutALPNTheFirstBytesDecide(t *testing.T) {
	f := newFixture(t, "limits: {handshakeTime: 500ms}\n")
	config := f.tls()
	config.NextProtos = nil
	dial := func(first string) *bufio.Reader {
		t.Helper()
		c, err := tls.Dial("tcp", f.address, config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = io.WriteString(c, first)
		return bufio.NewReader(c)
	}
	if line, err := dial("GET /openrpc.json HTTP/1.1\r\nHost: localhost\r\n\r\n").ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("HTTP: %q, %v", line, err)
	}
	frame := make([]byte, 9)
	if _, err := io.ReadFull(dial("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"), frame); err != nil || frame[3] != 4 {
		t.Errorf("HTTP/2: %x, %v", frame, err)
	}
	if _, err := dial("GET").ReadByte(); err == nil {
		t.Error("a caller that says nothing gets an answer")
	}
}

// A caller that does not log in is ended, whichever way it came.
func TestAWebSocketWithoutALoginIsEnded(t *testing.T) {
	f := newFixture(t, "limits: {handshakeTime: 100ms}\n", func(s *Server) { s.refusedTime = 0 })
	c, err := f.socket(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("%v", err)
	}
}

func TestAStopEndsConnectionsOfHTTP(t *testing.T) {
	f := newFixture(t, "")
	token := f.addToken("ci", time.Hour, "read")
	c, err := f.socket(http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		t.Fatal(err)
	}
	f.ask(f.browser(), "version", token)
	roundTrip(t, c, callVersion)
	done := make(chan error, 1)
	go func() { done <- f.stop() }()
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("%v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The page is below the checks of Host and Origin, needs no login, and can be turned off.
func TestThePageIsServedToBrowsers(t *testing.T) {
	f := newFixture(t, "")
	get := func(path string, headers ...string) (int, string, http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+f.address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
			r.Host = cmp.Or(r.Header.Get("Host"), r.Host)
		}
		resp, err := f.browser().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(data), resp.Header
	}
	if code, got, h := get("/"); code != 200 || !strings.Contains(got, "<title>Trident</title>") || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%d %.80s %v", code, got, h)
	}
	for _, tt := range []struct {
		path string
		code int
		head []string
	}{
		{"/app.js", 200, nil}, {"/none", 404, nil}, {"/openrpc.json", 200, nil}, {"/rpc", 405, nil},
		{"/", 200, []string{"Host", "localhost"}}, {"/", 403, []string{"Host", "evil.example.org"}}, {"/", 403, []string{"Origin", "https://evil.example.org"}},
	} {
		if code, got, _ := get(tt.path, tt.head...); code != tt.code {
			t.Errorf("%+v: %d %.80s", tt, code, got)
		}
	}
	f.configure("http: {page: false, passphrases: " + f.path("passphrases") + "}\n")
	if err := f.server.Reload(); err != nil {
		t.Fatal(err)
	}
	if code, got, _ := get("/"); code != 404 || !strings.Contains(got, "/rpc") {
		t.Errorf("a page that is turned off: %d %s", code, got)
	}
}
