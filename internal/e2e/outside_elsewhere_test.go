//go:build outside

package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/proto/client"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// An operator is in another network than the host, with the files in dir.
type operator struct {
	dir, trident string
	// socket is the path of tridentd's socket for a process on the host.
	socket string
	// init is the first process of the host.
	init     string
	listener *client.Listener
}

// A way is one of those by which an operator reaches a host.
type way struct {
	name string
	// run runs trident on the host, with the arguments.
	run func(t *testing.T, args ...string) result
	sdk func(t *testing.T) (*client.Client, error)
	// plain dials for a client that is gRPC's own.
	plain func(t *testing.T) func(context.Context) (net.Conn, error)
}

// TestElsewhere is the operator's side of TestAHostIsReachedFromElsewhere, in a network of its
// own: by each way it reads, has an operation, and has Trident replace itself and return,
// while two clients call without a pause. The gateway and the agent of the host end with their
// version, too. No call of the SDK fails.
func TestElsewhere(t *testing.T) {
	o := &operator{dir: os.Getenv(elsewhere), trident: os.Getenv("TRIDENT_E2E_TRIDENT"), socket: os.Getenv("TRIDENT_E2E_SOCKET"), init: os.Getenv("TRIDENT_E2E_INIT")}
	if o.dir == "" {
		t.Skip("only in a network of its own, as a part of another test")
	}
	for _, w := range []way{
		{"ssh", o.byName("ssh"), o.sshClient, o.sshPlain},
		{"gateway", o.byName("gateway"), o.gatewayClient, o.gatewayPlain},
		{"reverse connection", o.listen, o.listenClient, o.listenPlain},
	} {
		t.Run(w.name, func(t *testing.T) { o.services(t, w) })
	}
}

// waitForGateway waits until the gateway and the agent of the host run the programs in /usr.
func (o *operator) waitForGateway(ctx context.Context, t *testing.T) {
	t.Helper()
	const script = `for unit in trident-gateway trident-connect; do
	until cmp -s /proc/$(systemctl show -P MainPID $unit.service)/exe /usr/bin/trident-gateway; do sleep 0.1; done
done`
	out, err := exec.CommandContext(ctx, "nsenter", "-t", o.init, "-m", "-u", "-i", "-p", "-C", "-r", "-w", "--", "env", "-i", "PATH=/usr/sbin:/usr/bin", "timeout", "60", "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Errorf("the gateway or the agent runs another program than that in /usr: %v: %s", err, out)
	}
}

func (o *operator) file(name string) string { return filepath.Join(o.dir, name) }

func (o *operator) services(t *testing.T, w way) {
	if r := w.run(t, "version"); r.code != 0 || !strings.Contains(r.out, "daemon: "+outsideVersion) {
		t.Fatalf("version: %s", r)
	}
	put(t, o.file("host.yaml"), fmt.Appendf(nil, "os:\n  additionalFiles:\n  - {destination: /etc/motd, content: by %s}\n", w.name))
	if r := w.run(t, "update", o.file("host.yaml")); r.code != 0 || !strings.Contains(r.out, "Done: ") {
		t.Fatalf("update: %s", r)
	}

	c, err := w.sdk(t)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	dial := w.plain(t)
	// Without a retry policy, and without WaitForReady: what a program has that knows only gRPC.
	conn, err := grpc.NewClient("passthrough:///host", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	plain := tridentv1.NewVersionServiceClient(conn)
	if _, err := plain.Version(ctx, &tridentv1.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatalf("the plain client: %v", err)
	}

	trial := &client.Trial{Soak: durationpb.New(2 * time.Second), Deadline: durationpb.New(3 * time.Minute), AllowReadOnlyUsr: true}
	for _, change := range []struct {
		name string
		want string
		run  func(fn func(*client.Event)) (*client.Operation, error)
	}{
		{"upgrade", outsideNext, func(fn func(*client.Event)) (*client.Operation, error) {
			return c.Upgrade(ctx, client.Source{Path: "/root/trident.raw"}, trial, fn)
		}},
		{"rollback", outsideVersion, func(fn func(*client.Event)) (*client.Operation, error) { return c.Rollback(ctx, trial, fn) }},
	} {
		sdk := startLoad(ctx, c.Version)
		bare := startLoad(ctx, func(ctx context.Context) (string, error) {
			v, err := plain.Version(ctx, &tridentv1.VersionRequest{})
			return v.GetVersion(), err
		})
		var last uint64
		gap := false
		op, err := change.run(func(e *client.Event) {
			gap = gap || e.Sequence != last+1
			last = e.Sequence
		})
		if err == nil {
			o.waitForGateway(ctx, t)
		}
		sdk.end()
		bare.end()
		t.Logf("%s: the SDK: %s", change.name, sdk)
		t.Logf("%s: a plain client: %s", change.name, bare)
		if err != nil {
			t.Fatalf("%s: %v", change.name, err)
		}
		if gap || last != op.GetLastSequence() {
			t.Errorf("%s: of %d events the last is %d; a gap: %v", change.name, op.GetLastSequence(), last, gap)
		}
		if sdk.failed != 0 || sdk.versions[outsideVersion] == 0 || sdk.versions[outsideNext] == 0 || bare.versions[change.want] == 0 {
			t.Errorf("%s: calls failed, or only one version has answered", change.name)
		}
		if v, err := c.Version(ctx); v != change.want || err != nil {
			t.Errorf("after the %s: %q, %v", change.name, v, err)
		}
	}
}

// A load calls all the time, and counts.
type load struct {
	stop  context.CancelFunc
	calls sync.WaitGroup

	mu       sync.Mutex
	ended    int
	failed   int
	versions map[string]int
	codes    map[string]int
	longest  time.Duration
}

// Together they stay below the 100 calls a second that the gateway permits an identity.
const callers, callsEvery = 4, 100 * time.Millisecond

func startLoad(ctx context.Context, call func(context.Context) (string, error)) *load {
	running, stop := context.WithCancel(ctx)
	l := &load{stop: stop, versions: map[string]int{}, codes: map[string]int{}}
	for range callers {
		l.calls.Go(func() {
			tick := time.NewTicker(callsEvery)
			defer tick.Stop()
			for running.Err() == nil {
				l.count(ctx, call)
				select {
				case <-tick.C:
				case <-running.Done():
				}
			}
		})
	}
	return l
}

func (l *load) count(ctx context.Context, call func(context.Context) (string, error)) {
	began := time.Now()
	version, err := call(ctx)
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended++
	l.longest = max(l.longest, took)
	if err == nil {
		l.versions[version]++
		return
	}
	l.failed++
	l.codes[status.Code(err).String()]++
}

// end ends the load when its running calls have ended.
func (l *load) end() {
	l.stop()
	l.calls.Wait()
}

func (l *load) String() string {
	return fmt.Sprintf("%d calls, %d failed %v, answers by %v, the longest took %s", l.ended, l.failed, l.codes, l.versions, l.longest.Round(time.Millisecond))
}

// byName runs trident on a host of a hosts.yaml.
func (o *operator) byName(name string) func(t *testing.T, args ...string) result {
	return func(t *testing.T, args ...string) result {
		t.Helper()
		conf := t.TempDir()
		if err := os.MkdirAll(conf+"/trident", 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, conf+"/trident/hosts.yaml", fmt.Appendf(nil, `version: 1
hosts:
  ssh:
    endpoints: ['ssh://root@%s']
    sshCommand: [ssh, -F, '%s/ssh_config']
    remoteCommand: [trident, dial-stdio, --socket, '%s']
  gateway:
    endpoints: ['tls://%[1]s:7443']
    ca: %[2]s/ca.crt
    certificate: %[2]s/admin.crt
    key: %[2]s/admin.key
`, hostAddress, o.dir, o.socket))
		cmd := exec.Command(o.trident, append([]string{"--host", name}, args...)...)
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+conf)
		return runCommand(t, cmd)
	}
}

func (o *operator) sshClient(*testing.T) (*client.Client, error) {
	return client.Dial("ssh://root@"+hostAddress, client.WithSSH("ssh", "-F", o.file("ssh_config")), client.WithRemoteCommand("trident", "dial-stdio", "--socket", o.socket))
}

// sshPlain has ssh forward the socket, which is what gRPC alone can use.
func (o *operator) sshPlain(t *testing.T) func(context.Context) (net.Conn, error) {
	t.Helper()
	local := o.file("forwarded")
	cmd := exec.Command("ssh", "-F", o.file("ssh_config"), "-N", "-o", "ExitOnForwardFailure=yes", "-L", local+":"+o.socket, "root@"+hostAddress)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", local) }
}

func (o *operator) gatewayTLS(t *testing.T) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(o.file("admin.crt"), o.file("admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{RootCAs: poolOf(t, o.file("ca.crt")), Certificates: []tls.Certificate{pair}, ServerName: hostAddress, NextProtos: []string{"h2"}}
}

func (o *operator) gatewayClient(t *testing.T) (*client.Client, error) {
	t.Helper()
	return client.Dial("tls://"+hostAddress+":7443", client.WithTLS(o.gatewayTLS(t)))
}

func (o *operator) gatewayPlain(t *testing.T) func(context.Context) (net.Conn, error) {
	t.Helper()
	dialer := &tls.Dialer{Config: o.gatewayTLS(t)}
	return func(ctx context.Context) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", hostAddress+":7443")
	}
}

// listen runs trident on the host when it connects.
func (o *operator) listen(t *testing.T, args ...string) result {
	t.Helper()
	return runCommand(t, exec.Command(o.trident, append([]string{"listen", operatorAddress + ":7443", "--certificate", o.file("listener.crt"), "--key", o.file("listener.key"),
		"--ca", o.file("hosts-ca.crt"), "--host", "host-1", "--"}, args...)...))
}

func (o *operator) listenClient(t *testing.T) (*client.Client, error) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(o.file("listener.crt"), o.file("listener.key"))
	if err != nil {
		return nil, err
	}
	o.listener, err = client.Listen(operatorAddress+":7443", &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: poolOf(t, o.file("hosts-ca.crt"))})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := o.listener.Close(); err != nil {
			t.Error(err)
		}
	})
	return o.listener.Client("host-1")
}

// listenPlain takes the connections of the second agent.
func (o *operator) listenPlain(*testing.T) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return o.listener.Host(ctx, "host-2") }
}

func poolOf(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(path)
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(text) {
		err = errors.New("no certificate")
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return pool
}
