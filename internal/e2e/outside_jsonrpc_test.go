//go:build outside

package e2e_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// rpcHost is a tridentd, a gateway before it, and a token.
type rpcHost struct {
	t         *testing.T
	dir       string // another user can enter it
	port      string
	ca, token string
}

// rpcUID is the user of the gateway. It needs no entry on this machine.
const rpcUID = 64322

// rpcPassphrase is that of admin.
const rpcPassphrase = "a passphrase of the tests"

// newRPCHost starts both programs, with further lines of settings.
func newRPCHost(t *testing.T, settings ...string) *rpcHost {
	t.Helper()
	dir, err := os.MkdirTemp("", "json-rpc-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &rpcHost{t: t, dir: dir, ca: filepath.Join(dir, "host/etc/trident/gateway/ca.crt")}
	h.sh(`chmod 755 . && mkdir -p bin host/etc/trident host/usr audit run && go build -C "$TREE" -tags grpcnotrace -o "$PWD/bin/" ./cmd/tridentd ./cmd/trident-gateway`)
	h.sh(fmt.Sprintf(`printf 'root:x:0:0::/:/bin/sh\ntrident-gateway:x:%d:%[1]d::/:/bin/false\n' >host/etc/passwd
bin/trident-gateway setup --root host --name localhost --name host1.example.org
keys=$PWD/host/etc/trident/gateway
cat >host/etc/trident/gateway.yaml <<END
listen: ["127.0.0.1:0"]
socket: $PWD/host/run/trident/gateway.sock
tls: {certificate: $keys/server.crt, key: $keys/server.key, clientCA: $keys/ca.crt}
tokens: $keys/tokens.json
http: {passphrases: $keys/passphrases.json}
audit: {file: $PWD/audit/audit.log}
%[2]s
END
echo '%[3]s' | bin/trident-gateway passphrase set -c host/etc/trident/gateway.yaml >/dev/null
bin/trident-gateway token add panel --right operate -c host/etc/trident/gateway.yaml >token
chown %[1]d audit run; chgrp %[1]d $keys/server.key $keys/tokens.json $keys/passphrases.json; ln -s $keys/ca.crt ca.crt`, rpcUID, strings.Join(settings, "\n"), rpcPassphrase))
	text, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	h.token = strings.TrimSpace(string(text))
	// tridentd reads the tokens at their place below its root.
	h.sh(`sed 's|^tokens:.*||' host/etc/trident/gateway.yaml >policy && cp host/etc/trident/gateway.yaml serve.yaml && cp policy host/etc/trident/gateway.yaml`)
	h.start(0, `serves the gateway of this host" socket=(\S+)`, "bin/tridentd", "--root", filepath.Join(dir, "host"), "--idle-timeout", "0")
	address := h.start(rpcUID, `the gateway serves" address=(\S+)`, "bin/trident-gateway", "serve", "-c", filepath.Join(dir, "serve.yaml"), "--wake-file", "", "--load-file", "", "--console-file", filepath.Join(dir, "run/console.json"))
	_, h.port, _ = strings.Cut(address, ":")
	return h
}

// sh runs a script in the folder and returns its output.
func (h *rpcHost) sh(script string, env ...string) string {
	h.t.Helper()
	tree, err := filepath.Abs("../..")
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = h.dir, append(append(os.Environ(), "TREE="+tree), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// start starts a program as a user, and returns the match of a pattern in its log.
func (h *rpcHost) start(uid uint32, pattern string, args ...string) string {
	h.t.Helper()
	text, _ := h.begin(uid, pattern, args...)
	return text
}

// begin is start with a function that ends the program, which the end of the test calls, too.
func (h *rpcHost) begin(uid uint32, pattern string, args ...string) (string, func()) {
	h.t.Helper()
	cmd := exec.Command(filepath.Join(h.dir, args[0]), args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	found, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if m := regexp.MustCompile(pattern).FindStringSubmatch(lines.Text()); m != nil {
				select {
				case found <- m[1]:
				default:
				}
			}
			if testing.Verbose() {
				fmt.Fprintln(os.Stderr, args[0]+": "+lines.Text())
			}
		}
	}()
	end := sync.OnceFunc(func() { _ = cmd.Process.Signal(syscall.SIGTERM); <-done; _ = cmd.Wait() })
	h.t.Cleanup(end)
	select {
	case text := <-found:
		return text, end
	case <-time.After(time.Minute):
		h.t.Fatalf("%s does not say %q", args[0], pattern)
	}
	return "", end
}

// needs skips the test if a program is missing, except in CI.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil && os.Getenv("CI") != "true" {
			t.Skip(p + " is not installed")
		}
	}
}

// The commands of docs/json-rpc.md are run as they are.
func TestTheCurlCommandsOfTheDocsWork(t *testing.T) {
	needs(t, "curl")
	h := newRPCHost(t)
	doc, err := os.ReadFile("../../docs/json-rpc.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, ".curlrc"), []byte("silent\nfail\nconnect-to = \"host1.example.org:7443:127.0.0.1:"+h.port+"\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.sh("head -c 300000 /dev/urandom >trident-1.5.0.raw")
	commands := regexp.MustCompile(`(?m)^    (curl .*)$`).FindAllStringSubmatch(string(doc), -1)
	if len(commands) < 5 {
		t.Fatalf("the page has %d commands", len(commands))
	}
	for _, c := range commands {
		// curl has --json since 7.82.
		command := strings.ReplaceAll(c[1], "--json ", "-H 'Content-Type: application/json' -d ")
		out := h.sh(command, "TOKEN="+h.token, "CURL_HOME="+h.dir)
		if strings.Contains(out, `"error":`) || !strings.Contains(out, `"result":`) && !strings.HasPrefix(out, `{"id":"`) {
			t.Errorf("%s\n%s", command, out)
		}
		if id := strings.TrimSuffix(strings.TrimPrefix(out, `{"id":"`), `"}`); strings.Contains(command, "/upload") {
			h.upgradesFrom(t, id)
		}
	}
}

// upgradesFrom begins an upgrade from an upload, over another connection than that of the
// upload. The operation fails, because the root of this host is nearly empty.
func (h *rpcHost) upgradesFrom(t *testing.T, id string) {
	t.Helper()
	call := func(method, params string) string {
		return h.sh(`curl --cacert ca.crt https://localhost:`+h.port+`/rpc -H "Authorization: Bearer `+h.token+`" -H 'Content-Type: application/json' -d '{"jsonrpc":"2.0","method":"`+method+`","params":`+params+`,"id":1}'`, "CURL_HOME="+h.dir)
	}
	upgrade := `{"source":{"upload":{"id":"` + id + `"}},"requestId":"panel-1"}`
	began := call("self.upgrade", upgrade)
	m := regexp.MustCompile(`"operationId":"([^"]+)"`).FindStringSubmatch(began)
	if m == nil {
		t.Fatalf("no upgrade begins from an upload: %s", began)
	}
	if again := call("self.upgrade", upgrade); again != began {
		t.Errorf("the same request: %s, then %s", began, again)
	}
	for end := time.Now().Add(time.Minute); ; {
		got := call("operations.get", `{"id":"`+m[1]+`"}`)
		if strings.Contains(got, "PHASE_UNDONE") {
			if !strings.Contains(got, `"askedBy":"token:panel"`) || !strings.Contains(got, `"summary":"upgrade trident from an upload"`) {
				t.Error(got)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the operation does not end: %s", got)
		}
	}
}

// call sends a request of JSON-RPC with a token and returns the answer.
func (h *rpcHost) call(token, request string) string {
	h.t.Helper()
	return h.sh(`curl -s --cacert ca.crt https://localhost:`+h.port+`/rpc ${TOKEN:+-H "Authorization: Bearer $TOKEN"} -H 'Content-Type: application/json' -d "$REQUEST"`, "TOKEN="+token, "REQUEST="+request)
}

// The commands of the gateway in the docs are run as they are, but for the places of files.
func TestTheCommandsOfTheGatewayInTheDocsWork(t *testing.T) {
	needs(t, "curl")
	h := newRPCHost(t)
	console := filepath.Join(h.dir, "run/console.json")
	said := map[string]string{}
	for _, page := range []string{"gateway.md", "json-rpc.md"} {
		doc, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range regexp.MustCompile(`(?m)^    trident-gateway ((token|passphrase|console).*)$`).FindAllStringSubmatch(string(doc), -1) {
			if c[1] == "token add panel --right operate" { // newRPCHost has run it
				continue
			}
			more := ""
			if c[2] == "console" {
				more = " --console-file " + console
			}
			said[c[1]] = h.sh("echo 'a passphrase of this test' | bin/trident-gateway " + c[1] + " -c serve.yaml" + more + " 2>/dev/null")
		}
	}
	for _, command := range []string{"token add ci --right operate --days 30", "token list", "token revoke ci", "passphrase set", "console"} {
		if _, ok := said[command]; !ok {
			t.Errorf("the docs have no trident-gateway %s", command)
		}
	}
	if !strings.HasPrefix(said["token add ci --right operate --days 30"], "trident_") || !strings.Contains(said["token list"], "ci     valid") {
		t.Errorf("%q", said)
	}
	// On a host the files belong to the group trident-gateway.
	h.sh(fmt.Sprintf("chgrp %d run/console.json host/etc/trident/gateway/passphrases.json host/etc/trident/gateway/tokens.json", rpcUID))
	token := strings.TrimSpace(said["console"])
	for what, params := range map[string]string{"console:root": `{"token":"` + token + `"}`, "passphrase:admin": `{"passphrase":"a passphrase of this test","name":"admin"}`} {
		login := `{"jsonrpc":"2.0","method":"authenticate","params":` + params + `,"id":1}`
		got := h.call("", login)
		for end := time.Now().Add(time.Minute); strings.HasPrefix(what, "passphrase") && strings.Contains(got, `"error"`) && time.Now().Before(end); { // the gateway reads the file within seconds
			got = h.call("", login)
		}
		if !strings.Contains(got, `"identity":"`+what+`"`) || !strings.Contains(got, `"token":"trident-session_`) {
			t.Errorf("%s: %s", what, got)
		}
	}
	if got := h.call("", `{"jsonrpc":"2.0","method":"authenticate","params":{"token":"`+token+`"},"id":1}`); !strings.Contains(got, `"code":7`) {
		t.Errorf("a second login with the console token: %s", got)
	}
}

// The requests of docs/json-rpc.md fit their methods.
func TestTheRequestsOfTheDocsFitTheirMethods(t *testing.T) {
	needs(t, "curl")
	h := newRPCHost(t)
	doc, err := os.ReadFile("../../docs/json-rpc.md")
	if err != nil {
		t.Fatal(err)
	}
	requests := regexp.MustCompile(`(?m)^    (\{"jsonrpc":"2.0","method":.*\})$`).FindAllStringSubmatch(string(doc), -1)
	if len(requests) < 4 {
		t.Fatalf("the page has %d requests", len(requests))
	}
	for _, r := range requests {
		// The token may not read the journal, and no login has the passphrase "…".
		if got := h.call(h.token, r[1]); !strings.Contains(got, `"result"`) && !strings.Contains(got, `"code":5,`) && !strings.Contains(got, `"code":7,`) {
			t.Errorf("%s\n%s", r[1], got)
		}
	}
}

// Clients and tools of other projects run unchanged.
func TestForeignClientsOfJSONRPC(t *testing.T) {
	needs(t, "curl", "node", "npm", "python3", "pip3")
	h := newRPCHost(t)
	h.sh(`mkdir tools && cd tools && npm install --ignore-scripts --no-audit --no-fund --loglevel error \
	json-rpc-2.0@1.8.1 jayson@5.0.0 @open-rpc/client-js@2.1.0 @open-rpc/test-coverage@2.2.4 @open-rpc/meta-schema@1.14.9 ws@8 ajv@6
pip3 install --quiet --target ../python jsonrpcclient==4.0.3 jsonrpc-websocket==4.1.0 2>/dev/null`)
	scripts, err := filepath.Abs("testdata/jsonrpc")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"URL=https://localhost:" + h.port + "/rpc", "TOKEN=" + h.token, "CA=" + h.ca, "NODE_EXTRA_CA_CERTS=" + h.ca, "PYTHONPATH=" + filepath.Join(h.dir, "python"), "SCRIPTS=" + scripts}
	began := h.call(h.token, `{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"path":"/nonexistent"}},"id":1}`)
	m := regexp.MustCompile(`"operationId":"([^"]+)"`).FindStringSubmatch(began)
	if m == nil {
		t.Fatal(began)
	}
	doc, err := filepath.Abs("../../docs/json-rpc.md")
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, "DOC="+doc, "OPERATION="+m[1])
	for name, script := range map[string]string{
		"browser": `cd tools && cp "$SCRIPTS/browser.mjs" . && node browser.mjs`,
		"npm":     `cd tools && cp "$SCRIPTS/clients.mjs" . && node clients.mjs`,
		"Python":  `python3 "$SCRIPTS/client.py"`,
	} {
		t.Run(name, func(t *testing.T) {
			inner := *h
			inner.t = t
			t.Log(inner.sh(script, env...))
		})
	}
	t.Run("test-coverage", func(t *testing.T) {
		inner := *h
		inner.t = t
		// Those skipped begin or need an operation, a WebSocket, a passphrase or systemd, or refuse some of
		// the parameters that the tool makes up.
		t.Log(inner.sh(`cd tools && curl -s --cacert "$CA" "${URL%rpc}openrpc.json" | sed "s|\"url\":\"$URL\"|\"url\":\"$PLAIN/rpc\"|" >openrpc.json
node_modules/.bin/open-rpc-test-coverage -s openrpc.json -t http -r console \
	--skip authenticate,self.upgrade,self.activate,self.rollback,self.hold,self.unhold,self.pin,self.unpin,machine.journal,machine.services,operations.get,operations.cancel,operations.continue,notifications.subscribe,notifications.unsubscribe,system_load.historical,self.history,operations.list,machine.unit,machine.units,mounts.mount,mounts.unmount,mounts.holders,shares.list`,
			append(env, "PLAIN="+h.withToken(t))...))
	})
}

// withToken returns the URL of a server that adds the token, which test-coverage cannot.
func (h *rpcHost) withToken(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(h.ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: "localhost:" + h.port})
			r.Out.Header.Set("Authorization", "Bearer "+h.token)
			r.Out.Header.Del("Origin")
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
	}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s.URL
}
