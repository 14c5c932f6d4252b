package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// withTool puts a program in the place of QEMU, and returns a folder for the machine and a
// firmware.
func withTool(t *testing.T, script string) (dir string, known []firmware) {
	t.Helper()
	dir = t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"bin/" + tool: "#!/bin/sh\n" + script, "code": "code", "empty": "variables"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	return dir, []firmware{{"/missing", "/missing"}, {filepath.Join(dir, "code"), filepath.Join(dir, "missing")}, {filepath.Join(dir, "code"), filepath.Join(dir, "empty")}}
}

func machine(dir string) *Machine {
	return &Machine{Disk: filepath.Join(dir, "a,b.raw"), Size: 1 << 30, Memory: 512 << 20}
}

func TestAMachineRunsUntilItsCallerEnds(t *testing.T) {
	dir, known := withTool(t, `for a in "$@"; do echo "$a" >>"$0.args"; done; echo >"$0.begun"; exec sleep 1000`)
	m := machine(dir)
	if err := m.create(known); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(m.Disk); err != nil || info.Size() != 1<<30 || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx, strings.NewReader("live"), 4) }()
	begun := filepath.Join(dir, "bin", tool+".begun")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(begun); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("QEMU has not begun")
		}
	}
	if cd, err := os.ReadFile(m.Disk + ".iso"); string(cd) != "live" {
		t.Errorf("the CD is %q, %v", cd, err)
	}
	args, err := os.ReadFile(filepath.Join(dir, "bin", tool+".args"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"512\n", "file=" + filepath.Join(dir, "a,,b.raw") + "\n", "file=" + filepath.Join(dir, "a,,b.raw.vars") + "\n", "file:" + m.Log() + "\n", "file=" + filepath.Join(dir, "code") + "\n"} {
		if !strings.Contains(string(args), want) {
			t.Errorf("the arguments have no %q:\n%s", want, args)
		}
	}
	if strings.Contains(string(args), "bootindex") {
		t.Error("a device has a bootindex")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(m.Disk + ".iso"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the CD with the key of the machine is still there: %v", err)
	}
}

func TestAMachineUsesKVMUnlessItIsToBeEmulated(t *testing.T) {
	m := &Machine{}
	if args := strings.Join(m.arguments("cd"), " "); !strings.Contains(args, "-accel kvm -accel tcg ") {
		t.Error(args)
	}
	m.Emulate = true
	if args := strings.Join(m.arguments("cd"), " "); strings.Contains(args, "kvm") || !strings.Contains(args, "-accel tcg ") {
		t.Error(args)
	}
}

func TestAMachineThatEndsByItselfIsAnError(t *testing.T) {
	for script, want := range map[string]string{"exit 0": "it has powered off", "echo no memory >&2; exit 1": "no memory"} {
		dir, known := withTool(t, script)
		m := machine(dir)
		if err := m.create(known); err != nil {
			t.Fatal(err)
		}
		if err := m.Run(t.Context(), strings.NewReader("live"), 4); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
		if err := m.Run(t.Context(), strings.NewReader("live"), 5); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
			t.Errorf("a CD that is cut short: %v", err)
		}
	}
}

func TestAMachineThatCannotBeIsNotCreated(t *testing.T) {
	dir, known := withTool(t, "")
	for name, c := range map[string]struct {
		change func(*Machine)
		known  []firmware
		kind   errkind.Kind
		want   string
	}{
		"small disk":   {func(m *Machine) { m.Size = 1 }, known, errkind.Invalid, "the disk has 1 bytes"},
		"large disk":   {func(m *Machine) { m.Size = maxDisk + 1 }, known, errkind.Invalid, "16 TiB"},
		"small memory": {func(m *Machine) { m.Memory = 1 }, known, errkind.Invalid, "256 MiB"},
		"no firmware":  {func(*Machine) {}, known[:2], errkind.Precondition, "OVMF"},
		"firmware":     {func(*Machine) {}, []firmware{{dir, dir}}, "", "read the variables of the firmware"},
		"no folder":    {func(m *Machine) { m.Disk = dir + "/missing/disk" }, known, "", "no such file"},
		"used disk":    {func(m *Machine) { m.Disk = dir + "/code" }, known, errkind.Invalid, "code exists"},
		"used vars": {func(m *Machine) {
			m.Disk = dir + "/new"
			if err := os.WriteFile(m.variables(), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, known, errkind.Invalid, "new.vars exists"},
	} {
		m := machine(dir)
		c.change(m)
		err := m.create(c.known)
		if err == nil || (c.kind != "" && errkind.Of(err) != c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir + "/new"); err == nil {
			t.Errorf("%s: the disk is left", name)
		}
	}
	t.Setenv("PATH", dir)
	if err := machine(dir).Create(); errkind.Of(err) != errkind.Precondition || !strings.Contains(errkind.Hint(err), "apt install") || !strings.HasPrefix(err.Error(), "make a virtual machine: ") {
		t.Errorf("without QEMU: %v", err)
	}
}
