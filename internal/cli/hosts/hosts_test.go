package hosts

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosts"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
)

func TestFlagsOfAdd(t *testing.T) {
	got, err := commandtest.Parse(t, newAddCommand, "a", "ssh://root@a", "tls://a:1", "--label", "env=prod", "--label", "x=1", "--certificate", "c", "--key", "k",
		"--ca", "ca", "--server-name", "s", "--token-file", "t", "--ssh-command", "ssh -F x", "--remote-command", "sudo trident dial-stdio")
	commandtest.Want(t, &addOptions{name: "a", labels: []string{"env=prod", "x=1"}, host: hosts.Host{
		Endpoints: []string{"ssh://root@a", "tls://a:1"}, Certificate: "c", Key: "k", CA: "ca", ServerName: "s", TokenFile: "t",
		SSHCommand: []string{"ssh", "-F", "x"}, RemoteCommand: []string{"sudo", "trident", "dial-stdio"}, Labels: map[string]string{"env": "prod", "x": "1"},
	}}, got, err)
	for _, args := range [][]string{{}, {"a"}, {"a", "ssh://a", "--label", "x"}} {
		if got, err := commandtest.Parse(t, newAddCommand, args...); got != nil || errkind.Of(err) != errkind.Invalid {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestFlagsOfTheOthers(t *testing.T) {
	list, err := commandtest.Parse(t, newListCommand, "--label", "a=b")
	commandtest.Want(t, &selection{labels: []string{"a=b"}}, list, err)
	checked, err := commandtest.Parse(t, newCheckCommand, "a", "b", "--label", "a=b")
	commandtest.Want(t, &selection{names: []string{"a", "b"}, labels: []string{"a=b"}}, checked, err)
	removed, err := commandtest.Parse(t, newRemoveCommand, "a", "b")
	commandtest.Want(t, &removeOptions{names: []string{"a", "b"}}, removed, err)
	if _, err := commandtest.Parse(t, newRemoveCommand); errkind.Of(err) != errkind.Invalid {
		t.Errorf("without a name: %v", err)
	}
}

// trident runs a command of the group, and returns what it prints.
func trident(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	a, out, errs := commandtest.New()
	root := &cobra.Command{Use: "trident", SilenceErrors: true, SilenceUsage: true, PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.Begin(cmd) }}
	a.AddFlags(root)
	root.AddCommand(Commands(a, nil)...)
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func TestHostsAreAddedListedCheckedAndRemoved(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	folder := t.TempDir()
	s := clienttest.New(clienttest.Config{Version: "1.2.3"})
	t.Cleanup(s.Close)
	if err := s.Listen(filepath.Join(folder, "sock")); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, err := trident(t, "hosts", "list"); stdout != "" || !strings.Contains(stderr, "has no hosts. To add one: trident hosts add") || err != nil {
		t.Errorf("%q, %q, %v", stdout, stderr, err)
	}
	if _, _, err := trident(t, "hosts", "check"); errkind.Of(err) != errkind.NotFound || !strings.Contains(errkind.Hint(err), "trident hosts add") {
		t.Errorf("check of none: %v", err)
	}
	for _, args := range [][]string{
		{"a", "unix:" + folder + "/sock", "--label", "env=prod"}, {"b", "unix:" + folder + "/none", "unix:" + folder + "/sock"}, {"down", "unix:" + folder + "/none"},
	} {
		if _, stderr, err := trident(t, append([]string{"hosts", "add"}, args...)...); err != nil || !strings.Contains(stderr, "trident hosts check "+args[0]) {
			t.Fatalf("%v: %s%v", args, stderr, err)
		}
	}
	if stdout, _, err := trident(t, "hosts", "list", "--label", "env=prod"); err != nil || strings.Count(stdout, "\n") != 2 || !strings.Contains(stdout, "env=prod") {
		t.Errorf("%s%v", stdout, err)
	}
	if stdout, _, err := trident(t, "hosts", "check", "a", "b"); err != nil || strings.Count(stdout, "1.2.3") != 2 || !strings.Contains(stdout, "failed") || !strings.Contains(stdout, "There is no such socket.") {
		t.Errorf("%s%v", stdout, err)
	}
	stdout, _, err := trident(t, "hosts", "check", "--output", "json")
	var got []checked
	if jerr := json.Unmarshal([]byte(stdout), &got); jerr != nil || len(got) != 4 || !got[0].Reached || got[0].RoundTrip <= 0 || got[1].Reached || !got[1].Error.Retriable || !got[2].Reached {
		t.Errorf("%v in %s", jerr, stdout)
	}
	if client.Kind(err) != client.KindUnavailable || err.Error() != "check hosts: 1 of 3 hosts do not answer" {
		t.Errorf("error %v", err)
	}
	if _, stderr, err := trident(t, "hosts", "remove", "b", "down"); err != nil || stderr != "Removed b, down.\n" {
		t.Errorf("%s%v", stderr, err)
	}
	if stdout, _, _ := trident(t, "hosts", "list", "-o", "json"); !strings.Contains(stdout, `"host": "a"`) || strings.Contains(stdout, `"b"`) {
		t.Error(stdout)
	}
}

func TestWrongHostsAreNotAdded(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, args := range [][]string{
		{"add", "a", "web-1"}, {"add", "-", "ssh://a"}, {"add", "a", "ssh://a", "--token-file", "/none"}, {"add", "a", "tls://a:1", "--token-file", "/none"},
		{"list", "--label", "x"}, {"check", "x"}, {"remove", "x"},
	} {
		if stdout, _, err := trident(t, append([]string{"hosts"}, args...)...); err == nil || stdout != "" {
			t.Errorf("%v: %s, %v", args, stdout, err)
		}
	}
	if _, err := os.Stat(filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "trident/hosts.yaml")); err == nil {
		t.Error("there is a file")
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "")
	for _, args := range [][]string{{"add", "a", "ssh://a"}, {"list"}, {"check"}, {"remove", "x"}} {
		if _, _, err := trident(t, append([]string{"hosts"}, args...)...); errkind.Of(err) != errkind.Precondition {
			t.Errorf("%v without a home: %v", args, err)
		}
	}
}

func TestTheEndOfCertificatesIsShown(t *testing.T) {
	now := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	soon, past, later := now.Add(5*24*time.Hour), now.Add(-time.Hour), now.Add(300*24*time.Hour)
	for want, c := range map[string]checked{
		"-": {}, "server until 2026-12-29": {ServerCertificate: &later},
		"server until 2026-03-03 (expired), client until 2026-03-09 (5 days left)": {ServerCertificate: &past, ClientCertificate: &soon},
	} {
		if got := certificates(c, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	var c checked
	c.fill(hosts.Check{Expiry: hosts.Expiry{Server: later}})
	if !c.ServerCertificate.Equal(later) || c.ClientCertificate != nil || !c.Reached {
		t.Errorf("%+v", c)
	}
}

func TestNamesAreCompleted(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	if names, _ := completeNames(nil, nil, ""); names != nil {
		t.Errorf("%v", names)
	}
	if _, _, err := trident(t, "hosts", "add", "a", "ssh://a"); err != nil {
		t.Fatal(err)
	}
	if names, _ := completeNames(nil, nil, ""); strings.Join(names, " ") != "a" {
		t.Errorf("%v", names)
	}
}

// dial runs dial-stdio against a daemon that answers by far.
func dial(t *testing.T, ctx context.Context, stdin io.Reader, far func(*net.UnixConn)) (string, error) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		if conn, err := l.Accept(); err == nil {
			far(conn.(*net.UnixConn))
			_ = conn.Close()
		}
	}()
	a, out, _ := commandtest.New()
	cmd := newDialStdioCommand(a, func(ctx context.Context, o *dialStdioOptions) error {
		o.stdin = stdin
		return dialStdio(ctx, o)
	})
	root := &cobra.Command{Use: "trident", SilenceErrors: true, SilenceUsage: true, PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.Begin(cmd) }}
	a.AddFlags(root)
	root.AddCommand(command.OnThisHost(cmd)...)
	root.SetArgs([]string{"dial-stdio", "--socket", socket})
	err = root.ExecuteContext(ctx)
	return out.String(), err
}

func TestDialStdioPassesTheEndOfInputOnAndStillAnswers(t *testing.T) {
	got, err := dial(t, t.Context(), strings.NewReader("a question"), func(conn *net.UnixConn) {
		text, _ := io.ReadAll(conn) // until the end of input
		_, _ = conn.Write(bytes.ToUpper(text))
	})
	if got != "A QUESTION" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDialStdioEndsWithTheDaemonAlthoughInputIsOpen(t *testing.T) {
	stdin, writer := io.Pipe()
	defer func() { _ = writer.Close() }()
	got, err := dial(t, t.Context(), stdin, func(conn *net.UnixConn) { _, _ = conn.Write([]byte("bye")) })
	if got != "bye" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDialStdioEndsWhenItIsInterrupted(t *testing.T) {
	stdin, writer := io.Pipe()
	defer func() { _ = writer.Close() }()
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan struct{})
	defer close(ended)
	_, err := dial(t, ctx, io.MultiReader(strings.NewReader("x"), stdin), func(conn *net.UnixConn) {
		_, _ = conn.Read(make([]byte, 1)) // it is connected
		cancel(command.ErrInterrupted)
		<-ended
	})
	if err == nil || err.Error() != "interrupted" {
		t.Errorf("%v", err)
	}
}

func TestDialStdioWithoutADaemonSaysWhy(t *testing.T) {
	_, _, err := trident(t, "dial-stdio", "--socket", filepath.Join(t.TempDir(), "none"))
	if client.Kind(err) != client.KindUnavailable || !strings.Contains(client.Hint(err), "There is no such socket.") {
		t.Errorf("%v", err)
	}
}
