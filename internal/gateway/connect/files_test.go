package connect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/connect/connecttest"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// noTools is a host without tools.
type noTools struct{}

func (noTools) Run(context.Context, string, ...string) ([]byte, error) {
	return nil, errors.New("a tool runs")
}
func (noTools) Find(string) error { return errkind.Errorf(errkind.Precondition, "not installed") }

func serveFile(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func quick(w io.Writer) *agent {
	return newAgent(Config{MinPause: time.Millisecond, MaxPause: time.Millisecond}, slog.New(slog.NewTextHandler(w, nil)))
}

func TestAFileIsDownloadedWithItsMode(t *testing.T) {
	t.Parallel()
	const text = "#!/bin/sh\n"
	sum := sha256.Sum256([]byte(text))
	url := serveFile(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	for _, mode := range []fs.FileMode{0o755, 0o600, 0} {
		to := filepath.Join(t.TempDir(), "a/b/script")
		var labelled string
		tools := run.Func(func(_ context.Context, name string, args ...string) ([]byte, error) {
			labelled = fmt.Sprint(name, args)
			return nil, errors.New("no policy") // is only a warning
		})
		var log logs
		f := File{URL: url, Destination: to, Mode: mode, SHA256: strings.ToUpper(hex.EncodeToString(sum[:])), MaxBytes: int64(len(text))}
		if err := quick(&log).download(t.Context(), f, tools); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(to)
		if err != nil || info.Mode() != mode || info.Size() != int64(len(text)) {
			t.Errorf("%v, %v; want mode %v", info.Mode(), err, mode)
		}
		if labelled != "restorecon[-- "+to+"]" || log.count("cannot label a file") != 1 {
			t.Errorf("%q\n%s", labelled, &log)
		}
	}
}

func TestAFileThatIsRefusedLeavesTheOldOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		sha256  string
		want    string
		kind    errkind.Kind
	}{
		"hash":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }, strings.Repeat("0", 64), "its SHA-256 is 2d711642", errkind.Corrupt},
		"size":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 100)) }, "", "it has 100 bytes, and may have 10", errkind.TooLarge},
		"missing": {http.NotFound, "", `the server answers "404 Not Found"`, errkind.NotFound},
		"streamed": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush() // no Content-Length
			_, _ = io.Copy(w, zeros{})
		}, "", "it has more than 10 bytes", errkind.TooLarge},
	} {
		to := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(to, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		f := File{URL: serveFile(t, c.handler) + "/f?token=hidden", Destination: to, Mode: 0o644, SHA256: c.sha256, MaxBytes: 10}
		err := quick(io.Discard).download(t.Context(), f, noTools{})
		if errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
		entries, _ := os.ReadDir(filepath.Dir(to))
		if text, _ := os.ReadFile(to); string(text) != "old" || len(entries) != 1 {
			t.Errorf("%s: the file is %q, and the folder has %v", name, text, entries)
		}
	}
}

func TestAServerThatIsAwayIsAskedAgain(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	url := serveFile(t, func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "wh") // cut short
		default:
			_, _ = io.WriteString(w, "whole")
		}
	})
	to := filepath.Join(t.TempDir(), "file")
	if err := quick(io.Discard).download(t.Context(), File{URL: url, Destination: to, Mode: 0o644, MaxBytes: 10}, noTools{}); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(to); string(text) != "whole" || asked.Load() != 3 {
		t.Errorf("%q after %d requests", text, asked.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := quick(io.Discard).download(ctx, File{URL: url, Destination: to, MaxBytes: 10}, noTools{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestARedirectionDoesNotLeaveHTTPS(t *testing.T) {
	t.Parallel()
	request := func(url string) *http.Request { return httptest.NewRequest(http.MethodGet, url, nil) }
	secure := []*http.Request{request("https://a/")}
	if err := checkRedirect(request("http://a/"), secure); err == nil {
		t.Error("a redirection to http is followed")
	}
	if err := checkRedirect(request("https://b/"), secure); err != nil {
		t.Error(err)
	}
	if err := checkRedirect(request("https://b/"), make([]*http.Request, 10)); err == nil {
		t.Error("an endless redirection is followed")
	}
	if got := redact("https://u:p@a/b?token=x"); strings.Contains(got, "token") || strings.Contains(got, ":p@") {
		t.Error(got)
	}
	if got := redact("%"); got != "(a malformed URL)" {
		t.Error(got)
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "connect.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWithoutAListenerTheInstallationStarts(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, "unknown: 1\n")
	for _, active := range []string{"inactive", "activating"} {
		fake := &systemdtest.Fake{}
		fake.Define(systemdtest.Definition{Name: installUnit, Hang: true})
		if active != "inactive" {
			fake.Set(installUnit, systemd.Unit{Active: active})
		}
		restarted := make(chan struct{})
		fake.Hook = func(_ context.Context, c systemdtest.Call) error {
			if c.Method == "Restart" {
				close(restarted)
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var log logs
		done := make(chan error, 1)
		go func() {
			done <- serve(ctx, path, slog.New(slog.NewTextHandler(&log, nil)), noTools{}, func(context.Context) systemd.Units { return fake })
		}()
		if active == "inactive" {
			<-restarted
		} else {
			if err := log.await("the installation runs already", done); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if !fake.Enabled(installUnit) || log.count(`line 1: unknown: is not a setting`) != 1 {
			t.Errorf("%s: %v\n%s", active, fake.Calls(), &log)
		}
	}
	err := serve(t.Context(), path, slog.New(slog.DiscardHandler), noTools{}, func(context.Context) systemd.Units { return &systemdtest.Fake{} })
	if err == nil || !strings.Contains(err.Error(), "enable trident-install.service") || !strings.Contains(errkind.Hint(err), "clientAddress") {
		t.Error(err)
	}
}

func TestAFileThatFailsEndsTheAgent(t *testing.T) {
	t.Parallel()
	url := serveFile(t, http.NotFound)
	path := writeConfig(t, "additionalFiles: [{downloadUrl: '"+url+"', destination: "+filepath.Join(t.TempDir(), "f")+"}]")
	err := serve(t.Context(), path, slog.New(slog.DiscardHandler), noTools{}, nil)
	if err == nil || !strings.Contains(err.Error(), "404 Not Found") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := serve(ctx, path, slog.New(slog.DiscardHandler), noTools{}, nil); err != nil {
		t.Error(err)
	}
}

// The command runs until SIGTERM, and that is success.
func TestTheCommandEndsWithSIGTERM(t *testing.T) {
	host := connecttest.SelfSigned(t)
	path := writeConfig(t, "proxy: none\n"+strings.Replace(upstreamConfig(host, host.Certificate), "192.0.2.7:38211", "127.0.0.1:1", 1))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "additionalFiles:")
	_, tls, _ := strings.Cut(rest, "rcpClientTls:")
	head, _, _ := strings.Cut(string(text), "additionalFiles:")
	if err := os.WriteFile(path, []byte(head+"rcpClientTls:"+tls), 0o600); err != nil {
		t.Fatal(err)
	}
	var log logs
	cmd := Command()
	cmd.SetArgs([]string{"--config", path, "--debug"})
	cmd.SetErr(&log)
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(t.Context()) }()
	if err := log.await("connection refused", done); err != nil {
		t.Fatal(err, log.String())
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if log.count("the agent ends") != 1 {
		t.Error(log.String())
	}
	for _, args := range [][]string{{"--config", path + "x"}, {"argument"}} {
		cmd := Command()
		cmd.SetArgs(args)
		if cmd.ExecuteContext(t.Context()) == nil {
			t.Errorf("%q succeeds", args)
		}
	}
}
