package listen

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/gateway/connect"
	"github.com/trident-project/trident/internal/gateway/connect/connecttest"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
)

func write(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fleet is an authority, and an address that is free.
type fleet struct {
	t       *testing.T
	ca      *connecttest.Authority
	address string
}

func newFleet(t *testing.T) (*fleet, *options) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t, connecttest.NewAuthority(t), l.Addr().String()}
	_ = l.Close()
	own := f.ca.Issue(connect.ServerName)
	a, _, _ := commandtest.New()
	return f, &options{
		app: a, address: f.address,
		certificate: write(t, "c", own.Certificate), key: write(t, "k", own.Key), ca: write(t, "ca", f.ca.PEM),
	}
}

// host runs an agent in front of a daemon.
func (f *fleet) host(name, version string) {
	f.t.Helper()
	daemon := clienttest.New(clienttest.Config{Version: version, HostID: name})
	socket := filepath.Join(f.t.TempDir(), "s")
	if err := daemon.Listen(socket); err != nil {
		f.t.Fatal(err)
	}
	own := f.ca.Issue(name)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		connect.Run(ctx, connect.Config{
			ClientAddress: f.address, Socket: socket, Proxy: "none", MinPause: 10e6, MaxPause: 20e6,
			TLS: connect.Identity{Certificate: own.Certificate, Key: own.Key, CA: f.ca.PEM, ServerName: connect.ServerName},
		}, slog.New(slog.DiscardHandler))
	})
	f.t.Cleanup(func() { cancel(); ended.Wait(); daemon.Close() })
}

// versionOf is a command of trident: it prints the version of the daemon at --socket.
func versionOf(ctx context.Context, s terminal.Streams, args []string) int {
	c, err := client.Dial(args[1])
	if err != nil {
		return 2
	}
	defer func() { _ = c.Close() }()
	v, err := c.Version(ctx)
	if err != nil || v == "bad" {
		fmt.Fprintln(s.Stderr, "no version", err)
		return 2
	}
	fmt.Fprintln(s.Stdout, v, args[2:])
	return 0
}

func TestACommandRunsOnEachHostThatConnects(t *testing.T) {
	t.Parallel()
	f, o := newFleet(t)
	a, stdout, stderr := commandtest.New()
	o.app, o.run, o.args, o.hosts = a, versionOf, []string{"get", "status"}, []string{"one", "two", "two", "three"}
	f.host("one", "1.0.0")
	f.host("two", "bad")
	f.host("three", "3.0.0")
	f.host("other", "4.0.0")
	err := listen(t.Context(), o)
	if err == nil || err.Error() != "trident get status failed on some hosts: two (exit code 2)" {
		t.Error(err)
	}
	if got := stdout.String(); strings.Count(got, "1.0.0 [get status]\n") != 1 || strings.Count(got, "3.0.0 [get status]\n") != 1 || strings.Contains(got, "4.0.0") {
		t.Errorf("%q", got)
	}
	if !strings.Contains(stderr.String(), "== two: exit code 2\nno version") || !strings.Contains(stderr.String(), "listening on 127.0.0.1:") {
		t.Error(stderr)
	}
}

func TestWithoutACommandHostsAreListed(t *testing.T) {
	t.Parallel()
	f, o := newFleet(t)
	a, stdout, _ := commandtest.New()
	o.app, o.once = a, true
	f.host("one", "1.0.0")
	if err := listen(t.Context(), o); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(stdout.String(), "one") || !strings.Contains(stdout.String(), "127.0.0.1:") {
		t.Errorf("%q", stdout)
	}
}

func TestAnInterruptEndsTheCommand(t *testing.T) {
	t.Parallel()
	f, o := newFleet(t)
	began := make(chan struct{})
	o.args = []string{"x"}
	o.run = func(ctx context.Context, _ terminal.Streams, _ []string) int {
		close(began)
		<-ctx.Done()
		return 130
	}
	f.host("one", "1.0.0")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-began
		cancel(command.ErrInterrupted)
	}()
	if err := listen(ctx, o); err == nil || !strings.Contains(err.Error(), "interrupted") || !strings.Contains(err.Error(), "one (exit code 130)") {
		t.Error(err)
	}
}

func TestWrongFilesAreNamed(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*options){
		"read --certificate":           func(o *options) { o.certificate += "x" },
		"and --key":                    func(o *options) { o.key = o.ca },
		"it has no certificate in PEM": func(o *options) { o.ca = o.key },
		"listen for hosts on nowhere":  func(o *options) { o.address = "nowhere" },
	} {
		_, o := newFleet(t)
		change(o)
		if err := listen(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, and want %s", err, want)
		}
	}
	if _, err := forward(t.Context(), "/nowhere/s", nil); err == nil {
		t.Error("a socket in a missing folder")
	}
}

func TestFlagsBecomeOptions(t *testing.T) {
	t.Parallel()
	args := []string{":1", "--certificate", "c", "--key", "k", "--ca", "a", "--host", "x", "--host", "y", "--once"}
	got, err := commandtest.Parse(t, newCommand, append(args, "--", "get", "--x")...)
	if err != nil || got.address != ":1" || got.certificate+got.key+got.ca != "cka" || fmt.Sprint(got.hosts, got.once, got.args) != "[x y] true [get --x]" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range [][]string{{":1"}, args[1:], append([]string{"b"}, args...)} {
		if _, err := commandtest.Parse(t, newCommand, bad...); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	a, _, _ := commandtest.New()
	if Command(a, nil).Name() != "listen" {
		t.Error("the command has another name")
	}
}
