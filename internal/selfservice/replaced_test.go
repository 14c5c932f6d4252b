package selfservice

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// runs starts a copy of sleep as the program at path, and returns its process ID.
func runs(t *testing.T, path string) uint32 {
	t.Helper()
	copyProgram(t, path, "")
	cmd := exec.Command(path, "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return uint32(cmd.Process.Pid)
}

// copyProgram replaces path by a copy of sleep, with other bytes at its end.
func copyProgram(t *testing.T, path, tail string) {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	write(t, path, string(data)+tail, 0o755)
}

// restarts returns the units that bus was asked to restart.
func restarts(bus *systemdtest.Fake) (units []string) {
	for _, call := range bus.Calls() {
		if call.Method == "Restart" {
			units = append(units, call.Unit)
		}
	}
	return units
}

func TestAUnitOfTheGatewayIsRestartedIfItsProgramHasBeenReplaced(t *testing.T) {
	const gateway, agent = "trident-gateway.service", "trident-connect.service"
	for _, c := range []struct {
		name   string
		change func(t *testing.T, path string) // of the program that runs
		active string
		want   bool
	}{
		{"the same file", func(*testing.T, string) {}, "active", false},
		{"the same bytes in another file", func(t *testing.T, path string) { copyProgram(t, path, "") }, "active", false},
		{"another size", func(t *testing.T, path string) { copyProgram(t, path, "2") }, "active", true},
		{"other bytes", func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)-1]++
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			write(t, path, string(data), 0o755)
		}, "active", true},
		{"a unit that stops", func(t *testing.T, path string) { copyProgram(t, path, "2") }, "deactivating", false},
		{"a version without the program", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, "active", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, gatewayProgram)
			bus := &systemdtest.Fake{}
			bus.Set(gateway, systemd.Unit{Active: c.active, Sub: "running", MainPID: runs(t, path)})
			var touched []string
			var log bytes.Buffer
			s := &Service{Config: Config{Root: root, Systemd: bus, Logger: slog.New(slog.NewTextHandler(&log, nil)), Touch: func(name string, change func() error) error {
				touched = append(touched, name)
				return change()
			}}}
			c.change(t, path)
			if err := s.RestartReplaced(t.Context()); err != nil {
				t.Fatal(err)
			}
			units := restarts(bus)
			restarted := slices.Contains(units, gateway)
			if restarted != c.want || restarted != slices.Contains(touched, "restart "+gateway) || restarted != strings.Contains(log.String(), gateway) {
				t.Errorf("restarted: %v, touched %q, log %s", restarted, touched, &log)
			}
			if slices.Contains(units, agent) {
				t.Error("an agent that does not run is started")
			}
		})
	}
}

func TestAProgramOfTheAdministratorsIsNotRestarted(t *testing.T) {
	root := t.TempDir()
	copyProgram(t, filepath.Join(root, gatewayProgram), "2")
	for _, pid := range []uint32{runs(t, filepath.Join(root, "opt/wrapper")), 1<<22 + 1} { // the second is no process
		bus := &systemdtest.Fake{}
		bus.Set("trident-connect.service", systemd.Unit{Active: "active", Sub: "running", MainPID: pid})
		s := &Service{Config: Config{Root: root, Systemd: bus, Logger: slog.New(slog.DiscardHandler)}}
		if err := s.RestartReplaced(t.Context()); err != nil {
			t.Errorf("process %d: %v", pid, err)
		}
		if units := restarts(bus); len(units) > 0 {
			t.Errorf("process %d: %q are restarted", pid, units)
		}
	}
}

// A power cut or a kill at the restart leaves the old program or the new one, and the next
// daemon finds out which.
func TestARestartThatFailsIsAnErrorOfItsUnit(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, gatewayProgram)
	pid := runs(t, path)
	copyProgram(t, path, "2")
	bus := &systemdtest.Fake{}
	bus.Set("trident-gateway.service", systemd.Unit{Active: "active", Sub: "running", MainPID: pid})
	cut := errors.New("power cut")
	s := &Service{Config: Config{Root: root, Systemd: bus, Logger: slog.New(slog.DiscardHandler), Touch: func(string, func() error) error { return cut }}}
	err := s.RestartReplaced(t.Context())
	if !errors.Is(err, cut) || !strings.HasPrefix(err.Error(), "restart trident-gateway.service in the active version of trident: ") {
		t.Errorf("got %v", err)
	}
	s.Touch = nil
	if err := s.RestartReplaced(t.Context()); err != nil {
		t.Error(err)
	}
	if u, err := bus.Unit(t.Context(), "trident-gateway.service"); err != nil || u.MainPID == pid {
		t.Errorf("the unit still has process %d: %v", pid, err)
	}
}
