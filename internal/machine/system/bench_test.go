package system

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Each call is measured beside the plain reads of the same files; docs/machine.md has the
// figures.
func BenchmarkCalls(b *testing.B) {
	r := New("/")
	plain := func(files ...string) func() error {
		return func() error {
			for _, name := range files {
				if _, err := os.ReadFile(name); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, c := range []struct {
		name       string
		call, read func() error
	}{
		{"load", func() error { _, err := r.Load(); return err }, plain("/proc/loadavg")},
		{"uptime", func() error { _, err := r.Uptime(); return err }, plain("/proc/uptime", "/proc/sys/kernel/random/boot_id")},
		{"memory", func() error { _, err := r.Memory(); return err }, plain("/proc/meminfo")},
		{"stat", func() error { _, err := r.Stat(); return err }, plain("/proc/stat")},
		{"cpus", func() error { _, err := r.CPUs(); return err }, plain("/proc/cpuinfo")},
		{"mounts", func() error { _, err := r.Mounts(b.Context()); return err }, readMounts},
		{"processes", func() error { return r.Processes(b.Context(), nil, func(Process) error { return nil }) }, readProcesses},
	} {
		for _, side := range []struct {
			name string
			do   func() error
		}{{"call", c.call}, {"read", c.read}} {
			b.Run(c.name+"/"+side.name, func(b *testing.B) {
				for b.Loop() {
					if err := side.do(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func readMounts() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	for l := range strings.Lines(string(text)) {
		var s unix.Statfs_t
		_ = unix.Statfs(strings.Fields(l)[4], &s)
	}
	return err
}

func readProcesses() error {
	names, err := os.ReadDir("/proc")
	for _, n := range names {
		if _, err := strconv.Atoi(n.Name()); err == nil {
			_, _ = os.ReadFile("/proc/" + n.Name() + "/stat")
			_, _ = os.Readlink("/proc/" + n.Name() + "/exe")
		}
	}
	return err
}
