//go:build root

package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheGatewayIsInstalledAndUninstalledByOneCommand installs the package into a booted
// container, runs the command, logs in with the passphrase, and removes the gateway again.
func TestTheGatewayIsInstalledAndUninstalledByOneCommand(t *testing.T) {
	if tree := os.Getenv("TRIDENT_TRIXIE_TREE"); tree != "" && !exists(tree, "usr/bin/rpm") {
		t.Skipf("there is no rpm in %s", tree)
	}
	c := container{t, bootContainer(t, nil)}
	r := ready(t)
	tree := fmt.Sprintf("/proc/%d/root", c.init)
	if _, err := output(nil, nil, "cp", "-r", r.dir, filepath.Join(tree, "repo")); err != nil {
		t.Fatal(err)
	}
	c.sh("rpm -U /repo/systemd-stub.rpm && cd /repo && rpm -U trident-" + oldRPM + "-1.*.rpm trident-gateway-" + oldRPM + "-1.*.rpm")
	c.sh("systemctl start tridentd.socket")

	// A container shares the network of this process.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const passphrase = "a first passphrase of this host"
	c.want("uninstall where nothing is", "trident-gateway uninstall", "there is no gateway on this host")
	install := "echo '" + passphrase + "' | trident-gateway install --name localhost --listen " + address
	if said := c.sh(install); !strings.Contains(said, "trident-gateway.service runs, and starts at each boot") || strings.Contains(said, passphrase) {
		t.Errorf("%s", said)
	}
	const state = "systemctl is-active trident-gateway.service; systemctl is-enabled trident-gateway.service"
	c.want("the unit", state, "active\nenabled")

	pem, err := os.ReadFile(filepath.Join(tree, "etc/trident/gateway/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}}
	call := func(token, text string) (answer struct {
		Result struct {
			Token   string
			Version string
		}
		Error json.RawMessage
	}) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/rpc", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	login := call("", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"authenticate","params":{"passphrase":%q}}`, passphrase))
	if login.Error != nil || login.Result.Token == "" {
		t.Fatalf("%s", login.Error)
	}
	// tridentd has to be started for the first call, which callers repeat.
	version := call(login.Result.Token, `{"jsonrpc":"2.0","id":2,"method":"version"}`)
	for range 50 {
		if version.Error == nil {
			break
		}
		version = call(login.Result.Token, `{"jsonrpc":"2.0","id":2,"method":"version"}`)
	}
	if version.Result.Version != oldRPM {
		t.Errorf("%+v %s", version, version.Error)
	}
	web.CloseIdleConnections()

	if said := c.sh("trident-gateway install </dev/null"); !strings.Contains(said, "kept the passphrase of admin") {
		t.Errorf("again: %s", said)
	}
	c.want("the unit after a second install", state, "active\nenabled")
	c.sh("trident-gateway uninstall")
	c.want("what is left", state+"; ls -d /etc/trident/gateway* /run/trident-gateway /var/log/trident-gateway 2>/dev/null || :", "inactive\ndisabled")
	c.want("uninstall again", "trident-gateway uninstall", "there is no gateway on this host")
}
