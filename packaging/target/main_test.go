package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		args      []string
		want, err string
	}{
		{[]string{"1.2.3", "amd64,aarch64"}, "amd64 arm64", ""},
		{[]string{"1.2.3-rc.1"}, "", ""},
		{[]string{"v2"}, "", `VERSION: "v2" is not a version`},
		{[]string{"banana", "amd64"}, "", `VERSION: "banana" is not a version`},
		{[]string{""}, "", "VERSION: "},
		{[]string{"1.2.3", "riscv64"}, "", `ARCHES: "riscv64" is not an architecture`},
		{[]string{"1.2.3", ""}, "", "ARCHES: the list of architectures is empty"},
		{nil, "", "usage: "},
	} {
		got, err := target(c.args)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("target(%q) = %q, %v; want %q, %q", c.args, got, err, c.want, c.err)
		}
	}
}

// Each target that builds refuses a version or an architecture before it builds anything.
func TestEveryTargetThatBuildsChecksFirst(t *testing.T) {
	for _, name := range []string{"build", "rpm", "deb", "sysext", "release"} {
		for _, bad := range []string{"VERSION=v2", "VERSION=banana", "ARCHES=riscv64"} {
			if name == "build" && bad == "ARCHES=riscv64" {
				continue // it builds for this machine
			}
			out, err := exec.CommandContext(t.Context(), "make", "-C", "../..", "--no-print-directory", name, bad).CombinedOutput()
			_, value, _ := strings.Cut(bad, "=")
			if err == nil || !strings.Contains(string(out), `"`+value+`" is not a`) {
				t.Errorf("make %s %s: %v\n%s", name, bad, err, out)
			}
		}
	}
}

func TestScriptsCheckTooBeforeTheyWrite(t *testing.T) {
	for _, args := range [][]string{{"stage", "v2"}, {"sysext", "banana"}, {"sysext", "1.2.3", "riscv64"}} {
		out, err := exec.CommandContext(t.Context(), "../"+args[0], args[1:]...).CombinedOutput()
		bad := args[len(args)-1]
		if err == nil || !strings.Contains(string(out), `"`+bad+`" is not a`) {
			t.Errorf("packaging/%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
