//go:build root

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// inside tells this test binary that it runs in the container.
const inside = "TRIDENT_E2E_INSIDE"

// TestSystemdIsLikeTheFake runs TestInsideContainer in a container: PID 1 does
// not talk on its private socket to a process that it has no ID for.
func TestSystemdIsLikeTheFake(t *testing.T) {
	init := bootContainer(t, nil)
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
	t.Run("file systems are mounted, kept over a stop of their unit, and unmounted", func(t *testing.T) {
		mountsFileSystems(t, systemd.Connect(ctx, systemd.PrivateSocket))
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
