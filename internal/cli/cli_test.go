package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/sourcetest"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func TestEveryKindOfErrorHasItsExitCode(t *testing.T) {
	refused, failed := 5, 2
	codes := map[errkind.Kind]int{
		errkind.Untrusted: refused, errkind.Corrupt: refused, errkind.Incompatible: refused, errkind.Forbidden: refused,
		errkind.TooOld: refused, errkind.Blocked: refused, errkind.Busy: 6, errkind.Unhealthy: 7,
	}
	for _, name := range sourcetest.Constants(t, "proto/errkind/errkind.go") {
		kind := errkind.Kind(name)
		want, ok := codes[kind]
		if !ok {
			want = failed
		}
		if got := exitCode(fmt.Errorf("outer: %w", errkind.Errorf(kind, "x"))); got != want {
			t.Errorf("%s: exit code %d, want %d", kind, got, want)
		}
		failure := &operationsv1.Failure{Reason: string(kind), Message: "x"}
		if got := exitCode(&client.OperationError{Operation: &client.Operation{Failure: failure}}); got != want {
			t.Errorf("operation that failed as %s: exit code %d, want %d", kind, got, want)
		}
		stuck := &client.Operation{Failure: failure, Phase: operationsv1.Phase_PHASE_STUCK}
		if got := exitCode(&client.OperationError{Operation: stuck}); got != failed {
			t.Errorf("operation that is stuck after %s: exit code %d, want %d", kind, got, failed)
		}
	}
	for err, want := range map[error]int{nil: 0, command.ErrInterrupted: 130, command.ErrTimedOut: 124, io.EOF: 2} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: exit code %d, want %d", err, got, want)
		}
	}
	a, _, stderr := commandtest.New()
	if got := execute(t.Context(), a, []string{"version", "--socket", filepath.Join(t.TempDir(), "none")}); got != 1 {
		t.Errorf("no daemon: exit code %d", got)
	}
	if !strings.Contains(stderr.String(), "\nhint: There is no such socket.") {
		t.Errorf("no hint in:\n%s", stderr)
	}
}

func TestTheExitCodesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{exitOK, exitSetup, exitFailed, 3, exitRefused, exitBusy, exitRolledBack, exitTimedOut, exitInterrupted} {
		if !strings.Contains(string(doc), fmt.Sprintf("\n| %d |", code)) {
			t.Errorf("exit code %d is not in docs/cli.md", code)
		}
		if !regexp.MustCompile(fmt.Sprintf(`\b%d\b`, code)).MatchString(rootLong) {
			t.Errorf("exit code %d is not in the help", code)
		}
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s says nothing about itself", cmd.CommandPath())
		}
		if cmd.HasParent() && cmd.Parent().Hidden {
			return // the page has the group
		}
		if !cmd.HasSubCommands() && !strings.HasPrefix(cmd.CommandPath(), "trident completion") && !strings.Contains(string(doc), cmd.CommandPath()) {
			t.Errorf("%s is not in docs/cli.md", cmd.CommandPath())
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(Command())
}
