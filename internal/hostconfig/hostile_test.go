package hostconfig

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
)

func TestHostileDocumentsGetOneClearFinding(t *testing.T) {
	t.Parallel()
	laughs := "internalParams:\n  a: &a {k: v}\n"
	for i := range 20 {
		at := 'a' + rune(i)
		laughs += fmt.Sprintf("  %c: &%c [%c%c, *%c, *%c, *%c]\n", at+1, at+1, '*', at, at, at, at)
	}
	deep := "internalParams:\n"
	for i := range 80 {
		deep += strings.Repeat(" ", i+1) + "k:\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"too large", strings.Repeat("#", maxText+1), "is larger than 1024 KiB"},
		{"too deep", "internalParams: " + strings.Repeat("[", 100), "depth"},
		{"too deep in blocks", deep, "depth"},
		{"a billion laughs", laughs, "one alias too many"},
		{"an alias of itself", "internalParams: {a: &a [*a]}", "nested more than"},
		{"many aliases", "os: {hostname: &a x}\ninternalParams: {k: [" + strings.Repeat("*a,", maxAliases+1) + "]}", "one alias too many"},
		{"many values", "internalParams: {k: [" + strings.Repeat("1,", maxNodes+1) + "]}", "is too much"},
		{"much text by aliases", "internalParams: {a: &a " + strings.Repeat("x", 100_000) + ", k: [" + strings.Repeat("*a,", 900) + "]}", "of text, that reached"},
		{"more when written out", "internalParams: " + strings.Repeat("{k: ", 50) + "[" + strings.Repeat("1,", 50_000) + "]" + strings.Repeat("}", 50), "when it is written out"},
		{"a merge key", "os:\n  <<: {hostname: x}\n", "merge key"},
		{"bytes that are no UTF-8", "os:\n  hostname: \xff\n", "2:13: is not UTF-8: byte 0xff"},
		{"UTF-16", "\xff\xfeo\x00s\x00", "is not UTF-8"},
		{"a NUL", "os:\n  hostname: a\x00b\n", "2:14: has the control character U+0000"},
		{"two documents", "os: {}\n---\nos: {}\n", "starts a second document"},
		{"a tab", "os:\n\thostname: x\n", "2:1: is not YAML: a tab in the indentation"},
		{"an alias of nothing", "os: *nothing\n", "unknown anchor"},
		{"a list as a key", "? [os]\n: {}\n", "has a key that is not text"},
		{"a key that is null", "os: {~: x}\n", "has a key that is not text"},
		{"a key without an end", "os: {\"host", "is not YAML"},
		{"a key given twice", "os: {}\nos: {}\n", "2:1: os: is given twice; the first is in line 1"},
		{"no mapping", "just text", "is a single value; wants a mapping"},
		{"a key of a megabyte", strings.Repeat("k", 900_000) + ": 1", "…: is not a known key here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got *Config
			var r Report
			took := hostconfigtest.ProcessorTime(t, func() { got, r = Parse([]byte(c.text), nil) })
			if got != nil || len(r) != 1 || !strings.Contains(r[0].String(), c.want) {
				t.Errorf("want one fault with %q, got %d:\n%.400s", c.want, len(r), hostconfigtest.Lines(r))
			}
			if took > 10*time.Second {
				t.Errorf("it took %s of processor time", took)
			}
			if n := len(hostconfigtest.Lines(r)); n > 1000 {
				t.Errorf("the report has %d bytes", n)
			}
		})
	}
}

func TestAReportIsBounded(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("- x\n", 1000)
	if _, r := Parse([]byte("os:\n  sysexts:\n"+strings.ReplaceAll(text, "- ", "  - ")), nil); len(r) != maxFaults {
		t.Errorf("%d findings, want %d", len(r), maxFaults)
	}
}

func TestAnAliasIsWhatItStandsFor(t *testing.T) {
	t.Parallel()
	c := mustParse(t, "health:\n  checks:\n  - {name: a, systemdServices: &units [one, two], runOn: &on [all]}\n  - {name: b, systemdServices: *units, runOn: *on}\n")
	if got := c.Spec().Health.Checks[1].Systemd.SystemdServices; len(got) != 2 {
		t.Errorf("got %q", got)
	}
}
