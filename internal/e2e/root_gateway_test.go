//go:build root

package e2e_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/proto/client"
)

// gatewayUID is the user of the gateway of these tests. It needs no entry on this machine.
const gatewayUID = 64321

// program starts a program, and returns the first match of a pattern in its log.
func program(t *testing.T, uid uint32, pattern string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		seen := false
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if m := regexp.MustCompile(pattern).FindStringSubmatch(lines.Text()); m != nil && !seen {
				seen = true
				found <- m[len(m)-1]
			}
			if testing.Verbose() {
				fmt.Fprintln(os.Stderr, filepath.Base(args[0])+": "+lines.Text())
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-done
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", args[0], err)
		}
	})
	select {
	case text := <-found:
		return text
	case <-time.After(time.Minute):
		t.Fatalf("%s does not say %q", args[0], pattern)
	}
	return ""
}

// TestARemoteCallerUsesTheHostThroughTheGateway runs both programs, each as its user, and
// calls as the administrator, by a token, and as somebody who took the gateway over.
func TestARemoteCallerUsesTheHostThroughTheGateway(t *testing.T) {
	dir, err := os.MkdirTemp("", "gateway-") // not t.TempDir: the other user has to enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	bin, host := filepath.Join(dir, "bin"), filepath.Join(dir, "host")
	keys, audit := filepath.Join(host, "etc/trident/gateway"), filepath.Join(dir, "audit")
	for _, d := range []string{bin, filepath.Join(host, "etc/trident"), audit} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-tags", "grpcnotrace", "-o", bin+"/", root+"/cmd/tridentd", root+"/cmd/trident-gateway").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	users := fmt.Sprintf("root:x:0:0::/:/bin/sh\ntrident-gateway:x:%d:%[1]d::/:/bin/false\n", gatewayUID)
	if err := os.WriteFile(filepath.Join(host, "etc/passwd"), []byte(users), 0o644); err != nil {
		t.Fatal(err)
	}
	gateway := filepath.Join(bin, "trident-gateway")
	if out, err := exec.Command(gateway, "setup", "--root", host, "--name", "localhost").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	settings := filepath.Join(host, "etc/trident/gateway.yaml")
	text := fmt.Sprintf("listen: [\"127.0.0.1:0\"]\nsocket: %[1]s/run/trident/gateway.sock\ntls: {certificate: %[2]s/server.crt, key: %[2]s/server.key, clientCA: %[2]s/ca.crt}\n"+
		"audit: {file: %[3]s/audit.log}\nrights: [{identity: \"uri:trident://admin\", rights: [admin]}]\n", host, keys, audit)
	if err := os.WriteFile(settings, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, uid := range map[string]int{audit: gatewayUID, filepath.Join(keys, "server.key"): 0} {
		if err := os.Chown(name, uid, gatewayUID); err != nil {
			t.Fatal(err)
		}
	}
	socket := program(t, 0, `serves the gateway of this host" socket=(\S+)`, filepath.Join(bin, "tridentd"), "--root", host, "--idle-timeout", "0")
	if socket != filepath.Join(host, "run/trident/gateway.sock") {
		t.Fatalf("the socket is %s", socket)
	}
	address := program(t, gatewayUID, `the gateway serves" address=(\S+)`, gateway, "serve", "-c", settings, "--wake-file", "")

	pair, err := tls.LoadX509KeyPair(filepath.Join(keys, "clients/admin.crt"), filepath.Join(keys, "clients/admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(keys, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	remote, err := client.Dial("tls://"+address, client.WithTLS(&tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{pair}}))
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	version, err := remote.Version(ctx)
	if err != nil {
		t.Fatal(err)
	}
	server, err := remote.Server(ctx)
	if err != nil || server.GetServerVersion() != version {
		t.Errorf("the handshake says %v, %v", server, err)
	}
	// An upload of no image fails in tridentd, and its operation says who asked.
	var events int
	op, err := remote.Stage(ctx, client.Source{Upload: io.LimitReader(zeros{}, 8<<20), Size: 8 << 20}, false, func(*client.Event) { events++ })
	if err == nil || events == 0 {
		t.Errorf("%v, %d events, %v", op, events, err)
	}
	all, err := remote.Operations(ctx, 1, false)
	if err != nil || len(all) != 1 || all[0].GetAskedBy() != "uri:trident://admin" {
		t.Errorf("operations %v, %v", all, err)
	}
	entries, err := os.ReadFile(filepath.Join(audit, "audit.log"))
	if err != nil || !strings.Contains(string(entries), `"identity":"uri:trident://admin","by":"certificate"`) {
		t.Errorf("audit log: %s, %v", entries, err)
	}
	// The gateway's user reaches neither the socket of root nor the policy.
	for _, path := range []string{filepath.Join(host, "run/trident/trident.sock"), settings, filepath.Join(keys, "ca.key")} {
		out, err := exec.Command("setpriv", "--reuid", fmt.Sprint(gatewayUID), "--regid", fmt.Sprint(gatewayUID), "--clear-groups", "test", "-w", path).CombinedOutput()
		if err == nil {
			t.Errorf("the gateway can write %s %s", path, out)
		}
	}
	// Root, and every other user, is refused on the socket of the gateway.
	direct, err := client.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	if _, err := direct.Version(ctx); client.Kind(err) != "DENIED" {
		t.Errorf("root calls on the socket of the gateway: %v", err)
	}
}

// zeros is an endless source of zero bytes.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
