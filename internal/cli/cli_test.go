package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/sourcetest"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// testApp writes into buffers and has a clock that stands still.
func testApp() (a *app, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	a = &app{Streams: terminal.Streams{Stdout: stdout, Stderr: stderr}}
	a.Now = func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }
	return a, stdout, stderr
}

// parse runs one command with a function that keeps the options.
func parse[O any](t *testing.T, newCommand func(*app, func(context.Context, *O) error) *cobra.Command, args ...string) (got *O, err error) {
	t.Helper()
	a, _, _ := testApp()
	root := newRootCommand(a)
	root.AddCommand(renamed(newCommand(a, func(_ context.Context, o *O) error {
		got = o
		return nil
	})))
	root.SetArgs(append([]string{"under-test"}, args...))
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	err = root.ExecuteContext(t.Context())
	return got, err
}

func renamed(cmd *cobra.Command) *cobra.Command {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	cmd.Use = "under-test " + rest
	return cmd
}

// want compares options but for the app in them.
func want[O any](t *testing.T, want, got *O, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ignoreApp := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".app" }, cmp.Ignore())
	var zero O
	allow := cmp.AllowUnexported(zero, followOptions{}, sourceOptions{}, trialOptions{}, servicingOptions{}, configOptions{}, allowedOperations{})
	if diff := cmp.Diff(want, got, allow, ignoreApp, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestFlagsBecomeOptions(t *testing.T) {
	t.Run("upgrade", func(t *testing.T) {
		got, err := parse(t, newSelfUpgradeCommand, "x.raw", "--soak", "20s", "--deadline", "2m", "--allow-downgrade",
			"--allow-read-only-usr", "--sha256", "ab", "--cancel-on-interrupt", "--detach", "--on-host")
		want(t, &selfUpgradeOptions{
			followOptions: followOptions{cancelOnInterrupt: true, detach: true},
			sourceOptions: sourceOptions{source: "x.raw", onHost: true, sha256: "ab"},
			trialOptions:  trialOptions{soak: 20 * time.Second, deadline: 2 * time.Minute, allowDowngrade: true, allowReadOnlyUsr: true},
		}, got, err)
	})
	t.Run("stage", func(t *testing.T) {
		got, err := parse(t, newSelfStageCommand, "http://x/y", "--allow-downgrade")
		want(t, &selfStageOptions{sourceOptions: sourceOptions{source: "http://x/y"}, allowDowngrade: true}, got, err)
	})
	t.Run("activate", func(t *testing.T) {
		got, err := parse(t, newSelfActivateCommand, "2.0.0", "--detach")
		want(t, &selfActivateOptions{followOptions: followOptions{detach: true}, version: "2.0.0"}, got, err)
	})
	t.Run("activate the newest", func(t *testing.T) {
		got, err := parse(t, newSelfActivateCommand)
		want(t, &selfActivateOptions{}, got, err)
	})
	t.Run("rollback", func(t *testing.T) {
		got, err := parse(t, newSelfRollbackCommand, "--soak", "1s")
		want(t, &selfRollbackOptions{trialOptions: trialOptions{soak: time.Second}}, got, err)
	})
	t.Run("history", func(t *testing.T) {
		got, err := parse(t, newSelfHistoryCommand, "--limit", "3")
		want(t, &selfHistoryOptions{limit: 3}, got, err)
	})
	t.Run("list", func(t *testing.T) {
		got, err := parse(t, newOperationListCommand, "--unsettled")
		want(t, &operationListOptions{limit: 50, unsettled: true}, got, err)
	})
	t.Run("watch", func(t *testing.T) {
		got, err := parse(t, newOperationWatchCommand, "op-1", "--after", "7", "--cancel-on-interrupt")
		want(t, &operationWatchOptions{followOptions: followOptions{cancelOnInterrupt: true}, id: "op-1", after: 7}, got, err)
	})
	t.Run("build", func(t *testing.T) {
		got, err := parse(t, newSysextBuildCommand, "--tree", "d", "--arch", "arm64", "--output", "f", "--epoch", "9", "--compress", "--key", "k", "--cert", "c")
		want(t, &sysextBuildOptions{tree: "d", arch: "arm64", image: "f", epoch: 9, epochSet: true, compress: true, key: "k", cert: "c"}, got, err)
	})
	t.Run("sign", func(t *testing.T) {
		got, err := parse(t, newSysextSignCommand, "f", "--signature", "s", "--cert", "c")
		want(t, &sysextSignOptions{image: "f", signature: "s", cert: "c"}, got, err)
	})
	t.Run("verify", func(t *testing.T) {
		got, err := parse(t, newSysextVerifyCommand, "f", "--trust", "a", "--trust", "b,c")
		want(t, &sysextVerifyOptions{image: "f", trust: []string{"a", "b,c"}}, got, err)
	})
}

func TestWrongFlagsAreRefusedBeforeAnythingRuns(t *testing.T) {
	for name, run := range map[string]func() error{
		"no source":    func() error { _, err := parse(t, newSelfUpgradeCommand); return err },
		"two versions": func() error { _, err := parse(t, newSelfActivateCommand, "1", "2"); return err },
		"no tree": func() error {
			_, err := parse(t, newSysextBuildCommand, "--arch", "arm64", "--output", "f")
			return err
		},
		"key without cert": func() error {
			_, err := parse(t, newSysextBuildCommand, "--tree", "t", "--arch", "arm64", "--output", "f", "--key", "k")
			return err
		},
		"two ways to sign": func() error {
			_, err := parse(t, newSysextSignCommand, "f", "--key", "k", "--signature", "s", "--cert", "c")
			return err
		},
		"unknown flag":        func() error { _, err := parse(t, newSelfRollbackCommand, "--allow-downgrade"); return err },
		"no duration":         func() error { _, err := parse(t, newSelfUpgradeCommand, "x", "--soak", "soon"); return err },
		"a negative sequence": func() error { _, err := parse(t, newOperationWatchCommand, "op", "--after", "-1"); return err },
	} {
		if err := run(); err == nil || exitCode(err) != exitFailed {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestEveryKindOfErrorHasItsExitCode(t *testing.T) {
	refused, failed := 5, 2
	codes := map[errkind.Kind]int{
		errkind.Untrusted: refused, errkind.Corrupt: refused, errkind.Incompatible: refused, errkind.Forbidden: refused,
		errkind.TooOld: refused, errkind.Blocked: refused, errkind.Busy: 6, errkind.Unhealthy: 7,
	}
	for _, name := range sourcetest.Constants(t, "internal/errkind/errkind.go") {
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
	for err, want := range map[error]int{nil: 0, errInterrupted: 130, errTimedOut: 124, io.EOF: 2} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: exit code %d, want %d", err, got, want)
		}
	}
	a, _, stderr := testApp()
	if got := a.run(t.Context(), []string{"version", "--socket", filepath.Join(t.TempDir(), "none")}); got != 1 {
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

func TestOnlyASmallPlainFileIsReadAsAKey(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(big); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("error %v", err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(secret); err == nil || strings.Contains(err.Error(), "c2Vj") || errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
