package arch

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEveryUsualNameIsUnderstood(t *testing.T) {
	for name, want := range map[string]string{
		"amd64": "amd64", "x86_64": "amd64", "x86-64": "amd64", "x64": "amd64", "AMD64": "amd64",
		"arm64": "arm64", "aarch64": "arm64", "ARM64": "arm64",
	} {
		if got, err := Parse(name); err != nil || got != want {
			t.Errorf("Parse(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestAnUnknownArchitectureIsNamedWithThoseThatAreKnown(t *testing.T) {
	for _, name := range []string{"riscv64", "", "x86", "i386", "arm", "amd64 "} {
		_, err := Parse(name)
		if err == nil {
			t.Errorf("Parse(%q): no error", name)
		} else if !strings.Contains(err.Error(), "aarch64") || !strings.Contains(err.Error(), `"`+name+`"`) {
			t.Errorf("Parse(%q): %v", name, err)
		}
	}
}

func TestLists(t *testing.T) {
	for list, want := range map[string][]string{
		"amd64":                 {"amd64"},
		"arm64,amd64":           {"arm64", "amd64"},
		"x86_64 aarch64":        {"amd64", "arm64"},
		"amd64, x86-64, x86_64": {"amd64"},
		"":                      nil,
		" , ":                   nil,
		"amd64,riscv64":         nil,
	} {
		got, err := ParseList(list)
		if diff := cmp.Diff(want, got); diff != "" || (err == nil) != (want != nil) {
			t.Errorf("ParseList(%q): %v (-want +got):\n%s", list, err, diff)
		}
	}
}

func TestEveryNameIsListed(t *testing.T) {
	all := Names()
	for _, name := range all {
		if _, err := Parse(name); err != nil {
			t.Error(err)
		}
	}
	if len(all) != 6 {
		t.Errorf("%d names: %q", len(all), all)
	}
}

func TestSystemdHasItsOwnNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"amd64": "x86-64", "x86_64": "x86-64", "arm64": "arm64", "aarch64": "arm64", "riscv64": "riscv64", "": ""} {
		if got := Systemd(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}
