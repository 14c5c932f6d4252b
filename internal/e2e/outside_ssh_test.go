//go:build outside

package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/proto/client"
)

// sshHost is an OpenSSH server on loopback, and a daemon on the same machine that services a
// folder.
type sshHost struct {
	folder, port, socket string
	// config is the ssh_config of a user whom the server knows, and who knows the server.
	config string
}

// startSSHHost starts both. The shell of the server finds trident in its PATH.
func startSSHHost(t *testing.T) *sshHost {
	t.Helper()
	p, err := buildPrograms()
	if err != nil {
		t.Fatal(err)
	}
	h := &sshHost{folder: t.TempDir()}
	h.socket = filepath.Join(h.folder, "trident.sock")
	for _, key := range []string{"host", "user", "stranger"} {
		sshRun(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(h.folder, key))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, h.port, _ = net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	hostKey, err := os.ReadFile(filepath.Join(h.folder, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	userKey, err := os.ReadFile(filepath.Join(h.folder, "user.pub"))
	if err != nil {
		t.Fatal(err)
	}
	h.write(t, "authorized_keys", string(userKey))
	h.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%s %s", h.port, hostKey))
	h.write(t, "known_other", fmt.Sprintf("[127.0.0.1]:%s %s", h.port, userKey))
	h.config = h.write(t, "ssh_config", h.settings("user", "known_hosts"))
	h.write(t, "sshd_config", fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/authorized_keys\nStrictModes no\nPidFile none\n"+
		"UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nSetEnv PATH=%s:/usr/bin:/bin\n", h.port, h.folder, h.folder, filepath.Dir(p.trident)))
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // for privilege separation
		t.Fatal(err)
	}
	h.start(t, "/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(h.folder, "sshd_config"))
	h.start(t, p.tridentd, "--root", h.folder+"/root", "--socket", h.socket)
	h.await(t, "tcp", "127.0.0.1:"+h.port)
	h.await(t, "unix", h.socket)
	return h
}

// settings returns an ssh_config with the names of files in the folder.
func (h *sshHost) settings(key, known string) string {
	return fmt.Sprintf("IdentityFile %s/%s\nIdentitiesOnly yes\nUserKnownHostsFile %s/%s\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n", h.folder, key, h.folder, known)
}

func (h *sshHost) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(h.folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func sshRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// start starts a program that ends with the test.
func (h *sshHost) start(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	log, err := os.Create(filepath.Join(h.folder, filepath.Base(name)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := os.MkdirAll(h.folder+"/root", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s:\n%s", log.Name(), text)
		}
	})
}

// await waits until an address accepts connections.
func (h *sshHost) await(t *testing.T, network, address string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial(network, address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (h *sshHost) target() string { return "ssh://root@127.0.0.1:" + h.port }

// run runs trident on hosts of a hosts.yaml with the entry "web" of these lines.
func (h *sshHost) run(t *testing.T, lines string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p, err := buildPrograms()
	if err != nil {
		t.Fatal(err)
	}
	conf := t.TempDir()
	if err := os.MkdirAll(conf+"/trident", 0o700); err != nil {
		t.Fatal(err)
	}
	text := "version: 1\nhosts:\n  web:\n    endpoints: ['" + h.target() + "']\n" + lines
	if err := os.WriteFile(conf+"/trident/hosts.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	cmd := exec.Command(p.trident, args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+conf)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), errs.String()
}

// lines returns the keys of the entry for an ssh_config, and for the socket of the test.
func (h *sshHost) lines(config string) string {
	return fmt.Sprintf("    sshCommand: [ssh, -F, '%s']\n    remoteCommand: [trident, dial-stdio, --socket, '%s']\n", config, h.socket)
}

func TestAHostIsReadAndServicedThroughOpenSSH(t *testing.T) {
	h := startSSHHost(t)
	lines := h.lines(h.config)
	if code, stdout, stderr := h.run(t, lines, "version", "--host", "web"); code != 0 || stdout != "client: 1.0.0\ndaemon: 1.0.0\n" {
		t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := h.run(t, lines, "hosts", "check"); code != 0 || !strings.Contains(stdout, h.target()+"  1.0.0") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	config := h.write(t, "host.yaml", "os:\n  additionalFiles:\n  - {destination: /etc/motd, content: through ssh}\n")
	if code, stdout, stderr := h.run(t, lines, "update", config, "--host", "web"); code != 0 || !strings.HasPrefix(stdout, "Done: ") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := h.run(t, lines, "operation", "list", "--host", "web,unix:"+h.socket); code != 0 || strings.Count(stdout, "update the host") != 2 {
		t.Errorf("through both ways: exit code %d:\n%s%s", code, stdout, stderr)
	}
	text, err := os.ReadFile(h.folder + "/root/etc/motd")
	if err != nil || string(text) != "through ssh" {
		t.Errorf("the file on the host: %q, %v", text, err)
	}
}

// An image of 64 MiB goes to the host by an upload. The daemon refuses it at its end, for it
// is none, so that all of it has passed.
func TestALongUploadPassesThroughOpenSSH(t *testing.T) {
	h := startSSHHost(t)
	c, err := client.Dial(h.target(), client.WithSSH("ssh", "-F", h.config), client.WithRemoteCommand("trident", "dial-stdio", "--socket", h.socket))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	const size = 64 << 20
	sent := &counting{rest: size}
	began := time.Now()
	_, err = c.Stage(t.Context(), client.Source{Upload: sent, Size: size}, false, nil)
	if kind := client.Kind(err); kind == client.KindUnavailable || kind == "" || sent.rest != 0 {
		t.Errorf("error of kind %q with %d bytes left: %v", kind, sent.rest, err)
	}
	t.Logf("%d MiB in %s: %v", size>>20, time.Since(began), err)
	if v, err := c.Version(t.Context()); v != outsideVersion || err != nil {
		t.Errorf("afterwards: %q, %v", v, err)
	}
}

// counting reads so many zero bytes.
type counting struct{ rest int }

func (c *counting) Read(p []byte) (int, error) {
	n := min(len(p), c.rest)
	clear(p[:n])
	c.rest -= n
	return n, nil
}

func TestWhatOpenSSHRefusesIsSaid(t *testing.T) {
	h := startSSHHost(t)
	noisy := h.write(t, "noisy.sh", "#!/bin/sh\necho 'Welcome to web'\nexec trident dial-stdio --socket "+h.socket+"\n")
	if err := os.Chmod(noisy, 0o700); err != nil {
		t.Fatal(err)
	}
	remote := func(words string) string {
		return fmt.Sprintf("    sshCommand: [ssh, -F, '%s']\n    remoteCommand: [%s]\n", h.config, words)
	}
	for name, tt := range map[string]struct {
		lines string
		code  int
		want  string
	}{
		"a key that the host does not know":  {h.lines(h.write(t, "c1", h.settings("stranger", "known_hosts"))), 1, "the host refuses the login: root@127.0.0.1: Permission denied (publickey"},
		"a host that the user does not know": {h.lines(h.write(t, "c2", h.settings("user", "known_none"))), 1, "ssh does not know the key of the host: "},
		"a host with another key":            {h.lines(h.write(t, "c3", h.settings("user", "known_other"))), 1, "the key of the host has changed: "},
		"no trident there":                   {remote("no-such-trident, dial-stdio"), 1, "the host has no such command: "},
		"no daemon there":                    {remote("trident, dial-stdio, --socket, /none"), 1, "the remote command ended with exit code 1: trident: connect to tridentd at /none: "},
		"a shell that greets":                {remote("'" + noisy + "'"), 1, `the far side printed "Welcome to web\n`},
		"no ssh":                             {"    sshCommand: [/no/ssh]\n", 1, "start ssh: "},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := h.run(t, tt.lines, "version", "--host", "web")
			if code != tt.code || !strings.Contains(stderr, tt.want) || !strings.Contains(stderr, "\nhint: ") {
				t.Errorf("exit code %d:\n%s", code, stderr)
			}
		})
	}
}
