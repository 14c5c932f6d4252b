//go:build root

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// bootScript runs in a mount namespace of its own. What the container writes is
// in memory, and its cgroups are below one of its own, $1. $2 is the tree.
const bootScript = `set -e
umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo $$ > "/sys/fs/cgroup/$1/cgroup.procs"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd /run/lock /run/c/upper /run/c/work /run/c/root
mount -t overlay -o "lowerdir=$2,upperdir=/run/c/upper,workdir=/run/c/work" overlay /run/c/root
: > /run/c/root/etc/machine-id
exec systemd-nspawn --directory=/run/c/root --machine="$1" --register=no --keep-unit --boot \
  --notify-ready=yes --link-journal=no --console=pipe
`

const cleanScript = `umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +
`

// inside tells this test binary that it runs in the container.
const inside = "TRIDENT_E2E_INSIDE"

func privateMounts(script string, args ...string) *exec.Cmd {
	return exec.Command("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", script, "sh"}, args...)...)
}

// bootContainer boots the Debian 13 tree in $TRIDENT_TRIXIE_TREE, which stays as
// it is, and returns the process ID of its init.
func bootContainer(t *testing.T) int {
	t.Helper()
	tree := os.Getenv("TRIDENT_TRIXIE_TREE")
	if tree == "" {
		t.Skip("TRIDENT_TRIXIE_TREE names no Debian 13 tree to boot")
	}
	ready := filepath.Join(t.TempDir(), "ready")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ready, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	name := fmt.Sprintf("trident-e2e-%d", os.Getpid())
	var console bytes.Buffer
	boot := privateMounts(bootScript, name, tree)
	boot.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready)
	boot.Stdout, boot.Stderr = &console, &console
	boot.WaitDelay = 5 * time.Second
	if err := boot.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = boot.Wait(); close(ended); _ = socket.Close() }()
	t.Cleanup(func() {
		_ = boot.Process.Signal(syscall.SIGTERM) // an orderly power-off
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			_ = boot.Process.Kill()
			<-ended
		}
		if out, err := privateMounts(cleanScript, name).CombinedOutput(); err != nil {
			t.Errorf("remove cgroups: %v: %s", err, out)
		}
		if t.Failed() {
			t.Logf("console:\n%s", console.Bytes())
		}
	})
	return awaitReady(t, socket, boot.Process.Pid)
}

// awaitReady returns the process ID of the container's init once it has booted.
func awaitReady(t *testing.T, socket *net.UnixConn, nspawn int) int {
	t.Helper()
	_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
	for message := make([]byte, 4096); ; {
		n, err := socket.Read(message)
		if err != nil {
			t.Fatalf("the container did not boot: %v", err)
		}
		if strings.Contains(string(message[:n]), "READY=1") {
			break
		}
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nspawn, nspawn))
	if err != nil {
		t.Fatal(err)
	}
	var init int
	if _, err := fmt.Sscan(string(children), &init); err != nil {
		t.Fatalf("children of nspawn %q: %v", children, err)
	}
	return init
}

// TestSystemdIsLikeTheFake runs TestInsideContainer in a container: PID 1 does
// not talk on its private socket to a process that it has no ID for.
func TestSystemdIsLikeTheFake(t *testing.T) {
	init := bootContainer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "cp", os.Args[0], fmt.Sprintf("/proc/%d/root/e2e.test", init)).CombinedOutput(); err != nil {
		t.Fatalf("copy the test into the container: %v: %s", err, out)
	}
	cmd := exec.CommandContext(ctx, "nsenter", "-t", fmt.Sprint(init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--",
		"/e2e.test", "-test.v", "-test.run=^TestInsideContainer$")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", inside + "=1"}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestInsideContainer/")) {
		t.Errorf("in the container: %v", err)
	}
	t.Logf("%s", out)
}

func define(t testing.TB, d systemdtest.Definition) {
	const dir = "/run/systemd/system"
	path := filepath.Join(dir, d.Name)
	err := os.MkdirAll(dir, 0o755)
	if err == nil && d.Masked {
		err = os.Symlink("/dev/null", path)
	} else if err == nil {
		err = os.WriteFile(path, []byte(d.File()), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
}

func TestInsideContainer(t *testing.T) {
	if os.Getenv(inside) == "" {
		t.Skip("only in a container, as a part of another test")
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	suite := func(t *testing.T) {
		systemdtest.Suite(t, func(*testing.T) systemdtest.Host {
			return systemdtest.Host{Manager: systemd.Connect(ctx, systemd.PrivateSocket), Define: define}
		})
	}
	t.Run("over its private socket", suite)
	t.Run("a transient unit gets its arguments and environment, and the journal what it says", func(t *testing.T) {
		transientSpeaks(t, systemd.Connect(ctx, systemd.PrivateSocket))
	})
	t.Run("a transient unit in the sandbox talks to systemd and has no privileges", func(t *testing.T) {
		sandboxedSpeaks(t, systemd.Connect(ctx, systemd.PrivateSocket))
	})
	t.Run("a connection survives daemon-reload and is made anew after daemon-reexec", func(t *testing.T) {
		survives(t, systemd.Connect(ctx, systemd.PrivateSocket))
	})
	t.Run("over the system bus", func(t *testing.T) {
		if err := os.Rename(systemd.PrivateSocket, systemd.PrivateSocket+".hidden"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Rename(systemd.PrivateSocket+".hidden", systemd.PrivateSocket) })
		suite(t)
	})
}

func transientSpeaks(t *testing.T, bus *systemd.Bus) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const unit = "trident-e2e-speaks.service"
	since := time.Now()
	err := bus.StartTransient(ctx, unit, systemd.Transient{
		Description: "It's 100% \"odd\"; $HOME",
		Exec:        []string{"/bin/sh", "-c", `echo "$1|$2|$3|$A|$B"; exec sleep infinity`, "sh", "one two % $A ; three", "$A", "${A} %n"},
		Env:         []string{"A=a b", `B="c' %n`},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `one two % $A ; three|$A|${A} %n|a b|"c' %n`
	var out []byte
	for ctx.Err() == nil && !strings.Contains(string(out), want) {
		if out, err = systemd.JournalTail(ctx, run.Host{}, []string{unit}, since, 10_000); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(string(out), want) {
		t.Errorf("journal lacks %q:\n%s", want, out)
	}
	if err := bus.Stop(ctx, unit); err != nil {
		t.Error(err)
	}
}

func sandboxedSpeaks(t *testing.T, bus *systemd.Bus) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const unit = "trident-e2e-sandboxed.service"
	since := time.Now()
	err := bus.StartTransient(ctx, unit, systemd.Transient{
		Description: "Says what it may",
		Exec: []string{"/bin/sh", "-c", `grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '[:space:]' ' '
chown 1:1 /run/systemd 2>/dev/null || echo "no chown"
umask
echo "dbus.socket is $(systemctl is-active dbus.socket)"
exec sleep infinity`},
		Sandbox: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = "CapBnd: 0000000000000000 NoNewPrivs: 1 Seccomp: 2 no chown 0077 dbus.socket is active"
	said := ""
	for ctx.Err() == nil && !strings.Contains(said, want) {
		out, err := systemd.JournalTail(ctx, run.Host{}, []string{unit}, since, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		said = ""
		for line := range strings.Lines(string(out)) {
			_, text, _ := strings.Cut(strings.TrimSpace(line), "]: ")
			said += " " + strings.TrimSpace(text)
		}
	}
	if !strings.Contains(said, want) {
		t.Errorf("journal lacks %q:\n%s", want, said)
	}
	if err := bus.Stop(ctx, unit); err != nil {
		t.Error(err)
	}
}

func survives(t *testing.T, bus *systemd.Bus) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const unit = "dbus.socket"
	if u, err := bus.Unit(ctx, unit); err != nil || u.Active != "active" {
		t.Fatalf("%+v, %v", u, err)
	}
	if err := bus.Reload(ctx); err != nil {
		t.Error(err)
	}
	if _, err := bus.Unit(ctx, unit); err != nil {
		t.Errorf("after daemon-reload: %v", err)
	}
	if _, err := (run.Host{}).Run(ctx, "systemctl", "daemon-reexec"); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Unit(ctx, unit); err != nil {
		t.Errorf("after daemon-reexec: %v", err)
	}
}
