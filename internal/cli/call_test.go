package cli

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rpcHost gives the name host to a gateway that answers with answer, or with the request in
// its result if that is empty.
func rpcHost(t *testing.T, status int, answer string) {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(status)
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			t.Errorf("the token is %q", r.Header.Get("Authorization"))
		case r.URL.Path == "/openrpc.json":
			_, _ = io.WriteString(w, `{"methods":[{"name":"self.status","summary":"The version"}]}`)
		case r.URL.Path != "/rpc" || r.Method != "POST" || r.Header.Get("Content-Type") != "application/json":
			t.Errorf("%s %s", r.Method, r.URL)
		case answer == "":
			var request map[string]json.RawMessage
			_ = json.Unmarshal(body, &request)
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","result":{"of":`+string(body)+`},"id":1}`)
		default:
			_, _ = io.WriteString(w, answer)
		}
	}))
	t.Cleanup(s.Close)
	folder := t.TempDir()
	t.Setenv("TRIDENT_HOST", "")
	t.Setenv("TRIDENT_SOCKET", "")
	t.Setenv("XDG_CONFIG_HOME", folder)
	dir := filepath.Join(folder, "trident")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for name, text := range map[string]string{
		"ca.crt": string(ca), "token": "secret\n",
		"hosts.yaml": "version: 1\nhosts:\n  a: {endpoints: ['unix:/none', 'tls://" + strings.TrimPrefix(s.URL, "https://") + "'], ca: ca.crt, tokenFile: token, serverName: example.com}\n  b: {endpoints: ['unix:/none']}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCallSendsARequestAndPrintsItsResult(t *testing.T) {
	rpcHost(t, 200, "")
	code, stdout, stderr := trident(t, "call", "self.history", `{"limit": 5}`, "--host", "a")
	if code != 0 || stderr != "" || !strings.Contains(stdout, `"method": "self.history"`) || !strings.Contains(stdout, `"limit": 5`) {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	if code, stdout, _ = trident(t, "call", "version", "--host", "a", "--output", "yaml"); code != 0 || !strings.Contains(stdout, "method: version") || strings.Contains(stdout, "params") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
	if _, stdout, _ = trident(t, "__complete", "--host", "a", "call", ""); !strings.Contains(stdout, "self.status\tThe version") {
		t.Errorf("the completion is %s", stdout)
	}
}

func TestCallSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		status         int
		answer, stderr string
		args           []string
	}{
		{200, `{"jsonrpc":"2.0","error":{"code":7,"message":"call x: no right","data":{"kind":"DENIED","hint":"ask"}},"id":1}`, "trident: call x: no right\nhint: ask\n", []string{"x", "--host", "a"}},
		{200, `{"jsonrpc":"2.0","error":{"code":-32601,"message":"no such method"},"id":1}`, "trident: no such method\n", []string{"x", "--host", "a"}},
		{200, `<html>`, "read the answer", []string{"x", "--host", "a"}},
		{401, "log in: the token is not known here\nmake one", "log in: the token is not known here\n", []string{"x", "--host", "a"}},
		{502, "bad gateway", "502 Bad Gateway: bad gateway", []string{"x", "--host", "a"}},
		{200, "", "it has no endpoint of the form tls://", []string{"x", "--host", "b"}},
		{200, "", "no host is named", []string{"x"}},
		{200, "", "PARAMS is not JSON", []string{"x", "{", "--host", "a"}},
		{200, "", "METHOD is missing", []string{"--host", "a"}},
		{200, "", `unexpected argument "3"`, []string{"x", "[]", "3", "--host", "a"}},
	} {
		rpcHost(t, tt.status, tt.answer)
		code, stdout, stderr := trident(t, append([]string{"call"}, tt.args...)...)
		if code == 0 || stdout != "" || !strings.Contains(stderr, tt.stderr) {
			t.Errorf("%v: exit code %d:\n%s%s", tt.args, code, stdout, stderr)
		}
	}
}
