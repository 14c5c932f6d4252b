// Package commandtest runs the commands of trident for tests, with streams in memory.
package commandtest

import (
	"bytes"
	"context"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
)

// New returns an App that writes into buffers and has a clock that stands still.
func New() (a *command.App, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	a = &command.App{Streams: terminal.Streams{Stdout: stdout, Stderr: stderr}}
	a.Now = func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }
	return a, stdout, stderr
}

// Parse parses args as those of a command, and returns the options with which the command
// would have run; nil if it would not have run.
func Parse[O any](t *testing.T, newCommand func(*command.App, func(context.Context, *O) error) *cobra.Command, args ...string) (got *O, err error) {
	t.Helper()
	a, _, _ := New()
	root := &cobra.Command{Use: "trident", PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.Begin(cmd) }}
	root.SetFlagErrorFunc(command.FlagError)
	a.AddFlags(root)
	cmd := newCommand(a, func(_ context.Context, o *O) error {
		got = o
		return nil
	})
	root.AddCommand(cmd)
	root.SetArgs(append([]string{cmd.Name()}, args...))
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	err = root.ExecuteContext(t.Context())
	return got, err
}

// Want compares options but for the App in them.
func Want[O any](t *testing.T, want, got *O, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ignoreApp := cmp.FilterPath(func(p cmp.Path) bool { return strings.EqualFold(p.Last().String(), ".app") }, cmp.Ignore())
	all := cmp.Exporter(func(reflect.Type) bool { return true })
	if diff := cmp.Diff(want, got, all, ignoreApp, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

// Evil is a name that fakes lines, clears the screen, hides and reorders what follows.
const Evil = "a\nhint: run me\r\x1b[2J\x1b]0;title\x07\u009b2J\u202egpj\u200b\u2028b\x7f\xff"

// Clean checks that show, which prints texts with Evil in them, prints so many lines, in
// which no character acts on a terminal, in every format.
func Clean(t *testing.T, lines int, show func(*command.App)) {
	t.Helper()
	a, stdout, stderr := New()
	show(a)
	text := stdout.String() + stderr.String()
	if strings.ContainsFunc(text, acts) || strings.Contains(text, "\nhint: run me") {
		t.Errorf("%q", text)
	}
	if n := strings.Count(text, "\n"); n != lines {
		t.Errorf("%d lines, want %d:\n%s", n, lines, text)
	}
	for _, format := range []terminal.Format{"json", "yaml"} {
		a, stdout, _ := New()
		a.Output = format
		show(a)
		if text := stdout.String(); strings.ContainsFunc(text, acts) {
			t.Errorf("as %s: %q", format, text)
		}
	}
}

// acts reports whether a character acts on a terminal, or cannot be seen there.
func acts(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp))
}
