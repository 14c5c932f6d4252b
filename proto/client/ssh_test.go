package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
)

// The test binary is also the ssh of the tests: it writes its arguments to the file of
// FAKE_SSH_ARGS, prints FAKE_SSH_STDERR and FAKE_SSH_STDOUT, and then exits with
// FAKE_SSH_EXIT, or connects its standard input and output to the socket FAKE_SSH_SOCKET.
func TestMain(m *testing.M) {
	if os.Getenv("FAKE_SSH") != "" {
		os.Exit(fakeSSH())
	}
	os.Exit(m.Run())
}

func fakeSSH() int {
	if name := os.Getenv("FAKE_SSH_ARGS"); name != "" {
		if err := os.WriteFile(name, []byte(strings.Join(os.Args[1:], "\n")), 0o600); err != nil {
			return 99
		}
	}
	_, _ = os.Stderr.WriteString(os.Getenv("FAKE_SSH_STDERR"))
	_, _ = os.Stdout.WriteString(os.Getenv("FAKE_SSH_STDOUT"))
	if code, err := strconv.Atoi(os.Getenv("FAKE_SSH_EXIT")); err == nil {
		return code
	}
	conn, err := net.Dial("unix", os.Getenv("FAKE_SSH_SOCKET"))
	if err != nil {
		return 98
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		_ = conn.(*net.UnixConn).CloseWrite()
	}()
	_, _ = io.Copy(os.Stdout, conn)
	return 0
}

// overSSH returns a client whose ssh behaves as settings, without the prefix FAKE_SSH_, say.
func overSSH(t *testing.T, target string, settings map[string]string, options ...client.Option) *client.Client {
	t.Helper()
	t.Setenv("FAKE_SSH", "1")
	for name, value := range settings {
		t.Setenv("FAKE_SSH_"+name, value)
	}
	c, err := client.Dial(target, append([]client.Option{client.WithSSH(os.Args[0])}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func serveSocket(t *testing.T, config clienttest.Config) (*clienttest.Server, string) {
	t.Helper()
	s := clienttest.New(config)
	t.Cleanup(s.Close)
	socket := filepath.Join(t.TempDir(), "sock")
	if err := s.Listen(socket); err != nil {
		t.Fatal(err)
	}
	return s, socket
}

func TestSSHReachesTheDaemonThroughTheRemoteCommand(t *testing.T) {
	_, socket := serveSocket(t, clienttest.Config{Version: "1.2.3"})
	for name, tt := range map[string]struct {
		target  string
		options []client.Option
		want    []string
	}{
		"plain": {"ssh://web-1", nil, []string{"-T", "-o", "BatchMode=yes", "--", "web-1", "trident", "dial-stdio"}},
		"user and port": {"ssh://root@web-1:2222", nil,
			[]string{"-T", "-o", "BatchMode=yes", "-p", "2222", "--", "root@web-1", "trident", "dial-stdio"}},
		"IPv6": {"ssh://root@[fe80::1%25eth0]:22", nil,
			[]string{"-T", "-o", "BatchMode=yes", "-p", "22", "--", "root@fe80::1%eth0", "trident", "dial-stdio"}},
		"other commands": {"ssh://a", []client.Option{client.WithSSH(os.Args[0], "-F", "x"), client.WithRemoteCommand("sudo", "trident", "dial-stdio", "--socket", "/a b'c", "$(x)", "")},
			[]string{"-F", "x", "-T", "-o", "BatchMode=yes", "--", "a", "sudo", "trident", "dial-stdio", "--socket", `'/a b'\''c'`, `'$(x)'`, "''"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := filepath.Join(t.TempDir(), "args")
			c := overSSH(t, tt.target, map[string]string{"SOCKET": socket, "ARGS": args}, tt.options...)
			if v, err := c.Version(t.Context()); v != "1.2.3" || err != nil {
				t.Fatalf("version %q, %v", v, err)
			}
			got, err := os.ReadFile(args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, strings.Split(string(got), "\n")); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSSHThatFailsSaysWhy(t *testing.T) {
	changed := "@@@@@@\r\n@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\r\nHost key verification failed.\r\n"
	for name, tt := range map[string]struct {
		settings   map[string]string
		kind       client.ErrorKind
		text, hint string
	}{
		"no key": {map[string]string{"EXIT": "255", "STDERR": "root@a: Permission denied (publickey).\r\n"}, client.KindDenied,
			"the host refuses the login: root@a: Permission denied (publickey).", "ssh root@a"},
		"unknown host key": {map[string]string{"EXIT": "255", "STDERR": "Host key verification failed.\r\n"}, client.KindUntrusted,
			"ssh does not know the key of the host: Host key verification failed.", "accept it: ssh root@a"},
		"changed host key": {map[string]string{"EXIT": "255", "STDERR": changed}, client.KindUntrusted, "the key of the host has changed", "ssh-keygen -R a"},
		"no route": {map[string]string{"EXIT": "255", "STDERR": "ssh: connect to host a port 22: Connection refused\r\n"}, client.KindUnavailable,
			"ssh failed: ssh: connect to host a port 22: Connection refused", "Try: ssh root@a"},
		"no trident": {map[string]string{"EXIT": "127", "STDERR": "bash: line 1: trident: command not found\n"}, client.KindPrecondition,
			"the host has no such command: bash: line 1: trident: command not found", "Install Trident there"},
		"an old trident": {map[string]string{"EXIT": "2", "STDERR": "trident: \"dial-stdio\" is not a command of trident\n"}, client.KindPrecondition,
			"has no dial-stdio", "Upgrade Trident"},
		"sudo": {map[string]string{"EXIT": "1", "STDERR": "sudo: a password is required\n"}, client.KindDenied, "sudo refuses the command: sudo: a password is required", "NOPASSWD"},
		"no right": {map[string]string{"EXIT": "1", "STDERR": "trident: dial unix /run/trident/trident.sock: connect: permission denied\n"}, client.KindDenied,
			"the user may not use the socket", "connect as root"},
		"no socket": {map[string]string{"EXIT": "1", "STDERR": "trident: no such file\n"}, client.KindUnavailable,
			"the remote command ended with exit code 1: trident: no such file", "ssh root@a trident version"},
		"silence": {map[string]string{"EXIT": "0"}, client.KindUnavailable, "ssh ended before the daemon answered", "journalctl"},
		"a banner and the end": {map[string]string{"EXIT": "0", "STDOUT": "hi\n"}, client.KindPrecondition,
			`the far side printed "hi\n" before the API`, "ssh -T root@a true"},
		"control characters": {map[string]string{"EXIT": "255", "STDERR": "\x1b[2Jboo\x07\n"}, client.KindUnavailable, "ssh failed: [2Jboo", "Try"},
	} {
		t.Run(name, func(t *testing.T) {
			c := overSSH(t, "ssh://root@a", tt.settings)
			_, err := c.Version(t.Context())
			if client.Kind(err) != tt.kind || !strings.Contains(err.Error(), "connect to tridentd at ssh://root@a: "+tt.text) && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error of kind %s: %v", client.Kind(err), err)
			}
			if !strings.Contains(client.Hint(err), tt.hint) {
				t.Errorf("hint %q", client.Hint(err))
			}
			if client.Retriable(err) != (tt.kind == client.KindUnavailable) {
				t.Errorf("retriable %t", client.Retriable(err))
			}
			if strings.ContainsAny(err.Error(), "\x1b\r") {
				t.Errorf("control characters in %q", err)
			}
		})
	}
}

func TestABannerBeforeTheAPIIsQuoted(t *testing.T) {
	_, socket := serveSocket(t, clienttest.Config{Version: "1"})
	for _, banner := range []string{"x", "hi\n", "Welcome to Debian GNU/Linux 13\n", strings.Repeat("long ", 1000)} {
		c := overSSH(t, "ssh://a", map[string]string{"SOCKET": socket, "STDOUT": banner})
		_, err := c.Version(t.Context())
		begin := banner[:min(len(banner), 40)]
		if client.Kind(err) != client.KindPrecondition || !strings.Contains(err.Error(), strings.Trim(strconv.Quote(begin), `"`)) || len(err.Error()) > 400 {
			t.Errorf("banner %.20q: %v", banner, err)
		}
	}
}

func TestTheRemarksOfSSHAreBounded(t *testing.T) {
	c := overSSH(t, "ssh://a", map[string]string{"EXIT": "255", "STDERR": strings.Repeat("x", 1<<16) + "the end"})
	_, err := c.Version(t.Context())
	if n := len(err.Error()); n > 3<<10 || !strings.Contains(err.Error(), "the end") {
		t.Errorf("%d bytes: %.100s", n, err)
	}
}

func TestSSHThatIsMissingIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	c, err := client.Dial("ssh://a")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Version(t.Context())
	if client.Kind(err) != client.KindPrecondition || !strings.Contains(err.Error(), "start ssh") || !strings.Contains(client.Hint(err), "openssh-client") {
		t.Errorf("%v; hint %q", err, client.Hint(err))
	}
}

func TestMalformedSSHTargetsAreRefused(t *testing.T) {
	for target, want := range map[string]string{
		"ssh://": "the host is missing", "ssh://-oProxyCommand=x": `"-oProxyCommand=x" is not the name of a host`, "ssh://-l@a": `"-l" is not the name of a user`,
		"ssh://a/path": "something follows", "ssh://a?x=1": "something follows", "ssh://a#f": "something follows", "ssh://u:geheim@a": "a password in a target",
		"ssh://@a": "the user is empty", "ssh://a:0": "the port", "ssh://a:70000": "the port", "ssh://a:x": "not a URL",
		"ssh://a;reboot": "not the name of a host", "ssh://$(x)": "not", "ssh://a%20b": "not", "ssh://x`y`@a": "not", "ssh://a\nb": "not a URL",
	} {
		_, err := client.Dial(target)
		if client.Kind(err) != client.KindInvalid || !strings.Contains(err.Error(), want) || !strings.Contains(client.Hint(err), "ssh://[user@]host[:port]") {
			t.Errorf("%q: %v; hint %q", target, err, client.Hint(err))
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: the password is in the error %v", target, err)
		}
	}
}

// The process of ssh ends with the connection: its own end of the socket closes.
func TestSSHEndsWithTheConnection(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	came := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			came <- conn
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	c := overSSH(t, "ssh://a", map[string]string{"SOCKET": socket})
	ended := make(chan error, 1)
	go func() {
		_, err := c.Version(ctx)
		ended <- err
	}()
	far := <-came
	defer func() { _ = far.Close() }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := far.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, far); err != nil {
		t.Errorf("ssh goes on: %v", err)
	}
}

// A host that restarts its daemon is reached again by another ssh, also if for a moment it
// has no command trident.
func TestAnOperationIsFollowedOverSeveralSSHs(t *testing.T) {
	s, socket := serveSocket(t, clienttest.Config{Version: "1"})
	c := overSSH(t, "ssh://a", map[string]string{"SOCKET": socket})
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FAKE_SSH_EXIT", "127")
	s.Restart()
	answer := make(chan error, 1)
	args := filepath.Join(t.TempDir(), "args")
	t.Setenv("FAKE_SSH_ARGS", args)
	go func() {
		_, err := c.Version(t.Context())
		answer <- err
	}()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := os.Stat(args); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no other ssh came")
		}
		time.Sleep(time.Millisecond)
	}
	if err := os.Unsetenv("FAKE_SSH_EXIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

func TestUnixTargetsHaveSeveralForms(t *testing.T) {
	_, socket := serveSocket(t, clienttest.Config{Version: "1"})
	for _, target := range []string{socket, "unix:" + socket, "unix://" + socket} {
		c, err := client.Dial(target)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := c.Version(t.Context()); v != "1" || err != nil {
			t.Errorf("%s: version %q, %v", target, v, err)
		}
		_ = c.Close()
	}
}
