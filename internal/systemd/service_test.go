package systemd_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/systemd"
)

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func file(t *testing.T, from interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := from.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// activated runs this test binary as systemd would: LISTEN_PID is the child's
// own, so a shell sets it and becomes the child.
func activated(t *testing.T, names string, files ...*os.File) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run=TestChildPrintsItsListeners`, os.Args[0])
	cmd.Env = append(os.Environ(), "TEST_CHILD=1", "LISTEN_FDS="+string(rune('0'+len(files))), "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = files
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

func TestChildPrintsItsListeners(t *testing.T) {
	if os.Getenv("TEST_CHILD") == "" {
		t.Skip("only as a child of another test")
	}
	found, err := systemd.Listeners()
	line := []string{"error:", errText(err), "env:", os.Getenv("LISTEN_FDS") + os.Getenv("LISTEN_PID") + os.Getenv("LISTEN_FDNAMES")}
	for _, l := range found {
		line = append(line, l.Name+"="+filepath.Base(l.Addr().String()))
	}
	again, _ := systemd.Listeners()
	if len(again) > 0 {
		line = append(line, "and again")
	}
	_, _ = os.Stdout.WriteString(strings.Join(line, " ") + "\n")
}

func errText(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

func TestPassedSocketsComeInOrderWithTheirNamesAndOnce(t *testing.T) {
	dir := t.TempDir()
	a, b := listen(t, filepath.Join(dir, "a")), listen(t, filepath.Join(dir, "b"))
	got := activated(t, "trident.socket:admin", file(t, a), file(t, b))
	if diff := cmp.Diff("error: none env:  trident.socket=a admin=b", got); diff != "" {
		t.Error(diff)
	}
}

func TestAPassedDescriptorThatIsNoListenerIsNamed(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := listen(t, filepath.Join(t.TempDir(), "a"))
	got := activated(t, "trident.socket:odd", file(t, a), f)
	if !strings.Contains(got, `error: use the socket "odd" that systemd passed: `) || strings.Contains(got, "=a") {
		t.Errorf("got %q", got)
	}
}

func TestSocketsMeantForAnotherProcessAreLeftAlone(t *testing.T) {
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	if found, err := systemd.Listeners(); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

func TestNotifySaysTheStateToTheSocketOfTheServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := systemd.Notify("READY=1"); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := systemd.Notify("READY=1\nSTATUS=ready"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := conn.Read(b)
	if err != nil || string(b[:n]) != "READY=1\nSTATUS=ready" {
		t.Errorf("%q, %v", b[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", path+".gone")
	if err := systemd.Notify("READY=1"); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket gone: %v", err)
	}
}

func TestTheWatchdogIntervalIsThatOfTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
		fails     bool
	}{
		{"", "", 0, false},
		{"30000000", "", 30 * time.Second, false},
		{"30000000", "1", 0, false}, // for another process
		{"soon", "", 0, true},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got, err := systemd.Watchdog(); got != c.want || (err != nil) != c.fails {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}
