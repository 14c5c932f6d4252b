package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is the client, the daemon, or this program, when its first argument says so.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "client":
			os.Exit(client(os.Args[2], os.Args[3:]))
		case "daemon":
			os.Exit(daemon(os.Args[2]))
		case "both":
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
			os.Exit(run(os.Args[0], []string{os.Args[0], "daemon", os.Args[2]}, append([]string{"client"}, os.Args[3:]...), signals))
		}
	}
	os.Exit(m.Run())
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(77)
	}
}

// call connects to the daemon and returns its answer.
func call() string {
	conn, err := net.Dial("unix", os.Getenv("TRIDENT_SOCKET"))
	must(err)
	said, err := io.ReadAll(conn)
	must(err)
	return string(said)
}

func client(does string, args []string) int {
	switch does {
	case "help":
		fmt.Println("usage", strings.Join(args, " "))
	case "calls":
		if len(args) > 0 { // the file is closed when this process ends
			_, err := os.OpenFile(args[0], os.O_WRONLY, 0)
			must(err)
		}
		fmt.Print(call())
		return 5
	case "calls-once":
		fmt.Print(call())
	case "calls-twice":
		fmt.Print(call())
		fmt.Print(call())
	case "waits":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
		fmt.Print(call())
		fmt.Println("client got", <-ended)
		return 130
	case "dies":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return 0
}

func daemon(does string) int {
	if os.Getenv("LISTEN_FDS") != "1" || os.Getenv("LISTEN_PID") != "1" || os.Getenv("LISTEN_FDNAMES") != "tridentd.socket" {
		fmt.Fprintln(os.Stderr, "no socket is announced")
		return 1
	}
	if does == "fails" {
		fmt.Fprintln(os.Stderr, "tridentd: no host")
		return 1
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	l, err := net.FileListener(os.NewFile(3, "socket"))
	must(err)
	conn, err := l.Accept()
	must(err)
	if does == "crashes" {
		return 3
	}
	fmt.Fprintln(conn, "daemon answers")
	must(conn.Close())
	if does == "crashes later" {
		return 3
	}
	if does == "works" {
		<-terminated
		fmt.Fprintln(os.Stderr, "daemon got SIGTERM")
	}
	return 0
}

type result struct {
	code     int
	out, err string
}

func both(t *testing.T, daemon string, act func(*exec.Cmd, io.Reader), args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"both", daemon}, args...)...)
	tmp, err := os.MkdirTemp("", "tc-") // not t.TempDir: the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var out, errs strings.Builder
	cmd.Stderr = &errs
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	guard := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer guard.Stop()
	if act != nil {
		act(cmd, io.TeeReader(pipe, &out))
	}
	if _, err := io.Copy(&out, pipe); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the code is in the result
	if left, err := filepath.Glob(tmp + "/*"); err != nil || len(left) > 0 {
		t.Errorf("files stay: %q, %v", left, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func TestTheContainerRunsOneCommand(t *testing.T) {
	for _, c := range []struct {
		name, daemon string
		args         []string
		want         result
	}{
		{"a command without calls starts no daemon", "fails", []string{"help", "me", "--output", "json"}, result{0, "usage me --output json\n", ""}},
		{"a call starts the daemon", "answers", []string{"calls"}, result{5, "daemon answers\n", ""}},
		{"a daemon that ended is started again", "answers", []string{"calls-twice"}, result{0, "daemon answers\ndaemon answers\n", ""}},
		{"a daemon that fails ends the command", "fails", []string{"calls"}, result{exitSetup, "", "tridentd: no host\n"}},
		{"a daemon that crashes ends the command", "crashes", []string{"waits"}, result{exitSetup, "", ""}},
		{"a signal ends the command", "fails", []string{"dies"}, result{128 + 9, "", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := both(t, c.daemon, nil, c.args...); got != c.want {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// podman stop sends SIGTERM, and an interrupt of podman run is passed on: both processes end,
// the daemon once the command has ended.
func TestASignalEndsBoth(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		got := both(t, "works", func(cmd *exec.Cmd, out io.Reader) {
			if _, err := io.ReadFull(out, make([]byte, len("daemon answers\n"))); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}, "waits")
		if want := (result{130, "daemon answers\nclient got " + sig.String() + "\n", "daemon got SIGTERM\n"}); got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
}

// Whether the command has ended when the daemon fails or not, the container fails.
func TestADaemonThatFailsLaterFailsTheContainer(t *testing.T) {
	if got := both(t, "crashes later", nil, "calls-once"); got.code != exitSetup {
		t.Errorf("got %+v", got)
	}
}

// A daemon that still works keeps the container until it ends, or until a signal.
func TestAnOperationOutlivesItsCommand(t *testing.T) {
	end := filepath.Join(t.TempDir(), "end")
	if err := syscall.Mkfifo(end, 0o600); err != nil {
		t.Fatal(err)
	}
	got := both(t, "works", func(cmd *exec.Cmd, _ io.Reader) {
		if _, err := os.ReadFile(end); err != nil { // until the command has ended
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}, "calls", end)
	if want := (result{5, "daemon answers\n", "daemon got SIGTERM\n"}); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestAProgramThatCannotBeStartedIsNamed(t *testing.T) {
	if code := run("/missing/trident", nil, nil, nil); code != exitSetup {
		t.Errorf("code %d", code)
	}
	if code := run(os.Args[0], []string{"/missing/tridentd"}, []string{"client", "calls"}, nil); code != exitSetup {
		t.Errorf("without tridentd: code %d", code)
	}
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	if code := run(os.Args[0], nil, nil, nil); code != exitSetup {
		t.Errorf("without a folder for the socket: code %d", code)
	}
}
