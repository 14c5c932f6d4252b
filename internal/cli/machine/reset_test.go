package machine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func aReset() *machinev1.PlanResetResponse {
	return &machinev1.PlanResetResponse{
		Text: "Steps of the servicing reset:\n  files\n    remove /etc/a\n", HostName: "web-1", Confirmation: "0011",
		Steps:    []*hostv1.PlannedStep{{Name: "files", Actions: []*hostv1.Action{{Kind: "remove-file", Object: "/etc/a"}}}},
		Warnings: []*hostv1.Finding{{Message: "the network goes"}},
	}
}

// runReset runs the command against a daemon with that plan. typed is what a person answers; a
// nil typed is an input that is no terminal.
func runReset(t *testing.T, plan *machinev1.PlanResetResponse, typed io.Reader, args ...string) (begun bool, stdout, stderr string, err error) {
	t.Helper()
	s := clienttest.New(clienttest.Config{ResetPlan: plan, Script: []*operationsv1.Event{clienttest.Step(operationsv1.Phase_PHASE_DONE, "settle", nil)}})
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	if err := s.Listen(socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	a, out, errs := commandtest.New()
	root := &cobra.Command{Use: "trident", SilenceErrors: true, SilenceUsage: true, PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.Begin(cmd) }}
	a.AddFlags(root)
	root.AddCommand(newResetCommand(a, func(ctx context.Context, o *resetOptions) error {
		o.stdin, o.isTerminal = func(context.Context) io.Reader { return typed }, func(io.Reader) bool { return typed != nil }
		return reset(ctx, o)
	}))
	root.SetArgs(append([]string{"reset", "--socket", socket}, args...))
	err = root.ExecuteContext(t.Context())
	for _, call := range s.Calls() {
		begun = begun || strings.HasSuffix(call, ".ResetService/Reset")
	}
	return begun, out.String(), errs.String(), err
}

func TestAResetAsksForTheNameOfTheHost(t *testing.T) {
	t.Parallel()
	begun, stdout, stderr, err := runReset(t, aReset(), strings.NewReader("web-1\n"))
	if err != nil || !begun || stdout != "Done: reset the host.\n" {
		t.Errorf("begun: %v, %v\n%s%s", begun, err, stdout, stderr)
	}
	for _, text := range []string{"    remove /etc/a\n", "warning: the network goes\n", "type its name, web-1: "} {
		if !strings.Contains(stderr, text) {
			t.Errorf("the question lacks %q:\n%s", text, stderr)
		}
	}
	for _, typed := range []string{"", "\n", "yes\n", "web-2\n", strings.Repeat("w", 5000)} {
		begun, _, _, err := runReset(t, aReset(), strings.NewReader(typed))
		if begun || errkind.Of(err) != errkind.Cancelled || !strings.Contains(err.Error(), "nothing has changed") {
			t.Errorf("typed %.10q: begun: %v, %v", typed, begun, err)
		}
	}
	broken := errors.New("broken")
	if begun, _, _, err := runReset(t, aReset(), errorReader{broken}); begun || !errors.Is(err, broken) {
		t.Errorf("an input that cannot be read: begun: %v, %v", begun, err)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

func TestAResetWithoutATerminalNeedsTheConfirmation(t *testing.T) {
	t.Parallel()
	if begun, _, _, err := runReset(t, aReset(), nil); begun || errkind.Of(err) != errkind.Invalid || !strings.Contains(errkind.Hint(err), "--plan") {
		t.Errorf("without: begun: %v, %v", begun, err)
	}
	if begun, stdout, _, err := runReset(t, aReset(), nil, "--confirm", "0011"); !begun || err != nil || stdout == "" {
		t.Errorf("with: begun: %v, %v, %q", begun, err, stdout)
	}
	if _, stdout, _, err := runReset(t, aReset(), nil, "--confirm", "0022"); client.Kind(err) != client.KindPrecondition || stdout != "" {
		t.Errorf("with another: %v, %q", err, stdout)
	}
}

func TestThePlanOfAResetIsPrintedAndChangesNothing(t *testing.T) {
	t.Parallel()
	begun, stdout, stderr, err := runReset(t, aReset(), nil, "--plan")
	if begun || err != nil || !strings.HasSuffix(stdout, "    remove /etc/a\nTo reset web-1: trident host reset --confirm 0011\n") || stderr != "warning: the network goes\n" {
		t.Errorf("begun: %v, %v\n%s%s", begun, err, stdout, stderr)
	}
	begun, stdout, _, err = runReset(t, aReset(), nil, "--plan", "--output", "json")
	if begun || err != nil || !strings.Contains(stdout, `"confirmation": "0011"`) || !strings.Contains(stdout, `"kind": "remove-file"`) {
		t.Errorf("JSON: begun: %v, %v\n%s", begun, err, stdout)
	}
	if _, _, _, err := runReset(t, aReset(), nil, "--plan", "--confirm", "0011"); err == nil {
		t.Error("--plan and --confirm together are accepted")
	}
}

func TestAHostWithNothingToResetIsLeftAlone(t *testing.T) {
	t.Parallel()
	nothing := &machinev1.PlanResetResponse{Text: "nothing to reset\n", HostName: "web-1", Confirmation: "0011"}
	begun, stdout, stderr, err := runReset(t, nothing, strings.NewReader(""))
	if begun || err != nil || stdout != "" || stderr != "nothing to reset\n" {
		t.Errorf("begun: %v, %v\n%q%q", begun, err, stdout, stderr)
	}
}

// The plan has names of files from the host.
func TestThePlanOfAResetDoesNotActOnTheTerminal(t *testing.T) {
	t.Parallel()
	evil := aReset()
	evil.HostName, evil.Text, evil.Warnings[0].Message = commandtest.Evil[:len(commandtest.Evil)-1], "remove "+strings.ReplaceAll(commandtest.Evil[:len(commandtest.Evil)-1], "\n", ""), commandtest.Evil[:len(commandtest.Evil)-1]
	commandtest.Clean(t, 4, func(a *command.App) {
		_, stdout, stderr, _ := runReset(t, evil, strings.NewReader("no\n"))
		_, planned, warned, _ := runReset(t, evil, nil, "--plan")
		_, _ = io.WriteString(a.Stderr, stdout+stderr+planned+warned)
	})
}
