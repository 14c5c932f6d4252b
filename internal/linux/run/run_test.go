package run

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

func sh(script string) Command { return Command{Path: "/bin/sh", Args: []string{"-c", script}} }

func TestOutputIsWhatTheToolWroteToStandardOutput(t *testing.T) {
	out, err := Host{}.Run(t.Context(), "sh", "-c", "echo heard >&2; echo said")
	if err != nil || string(out) != "said\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAToolHasFolderAndEnvironmentOfTheCommand(t *testing.T) {
	c := sh(`cat; pwd; echo "$A$HOME"`)
	c.Env, c.Dir, c.Stdin = []string{"A=b"}, "/", strings.NewReader("in\n")
	out, err := Output(t.Context(), c)
	if err != nil || string(out) != "in\n/\nb\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAFailureShowsWhatTheToolSaid(t *testing.T) {
	tests := []struct {
		name, script string
		want         ExitError
	}{
		{"on standard error", "echo no >&2; echo yes; exit 3", ExitError{"/bin/sh", "exit status 3", "no"}},
		{"on standard output alone", "echo why; exit 1", ExitError{"/bin/sh", "exit status 1", "why"}},
		{"not at all", "exit 1", ExitError{"/bin/sh", "exit status 1", ""}},
		{"by a signal", "kill -9 $$", ExitError{"/bin/sh", "signal: killed", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Output(t.Context(), sh(tt.script))
			got, ok := errors.AsType[*ExitError](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Error(diff)
			}
			if !strings.HasPrefix(err.Error(), "/bin/sh: "+tt.want.Status) || !strings.HasSuffix(err.Error(), tt.want.Output) {
				t.Errorf("says %q", err)
			}
		})
	}
}

func TestAToolThatIsNotThereIsAPrecondition(t *testing.T) {
	_, err := Host{}.Run(t.Context(), "no-such-tool-anywhere")
	if errkind.Of(err) != errkind.Precondition {
		t.Errorf("got %v (%s)", err, errkind.Of(err))
	}
	_, err = Host{}.Run(t.Context(), "/no/such/tool")
	if err == nil {
		t.Error("a path that is not there ran")
	}
	if err := (Host{}).Find("no-such-tool-anywhere"); errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "find the tool no-such-tool-anywhere") {
		t.Errorf("found: %v", err)
	}
	if err := (Host{}).Find("sh"); err != nil {
		t.Error(err)
	}
}

func TestTheDeadlineKillsTheToolAndItsChildren(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "started")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("asked to stop")
	go func() {
		for {
			if _, err := os.Stat(pipe); err == nil || ctx.Err() != nil {
				cancel(stop)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	begun := time.Now()
	// The child holds the pipe open: it has to go too, or Output would wait.
	_, err := Output(ctx, sh("sleep 60 & touch "+pipe+"; wait"))
	if !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestOutputIsBounded(t *testing.T) {
	_, err := Output(t.Context(), sh("head -c 3000000 /dev/zero"))
	if errkind.Of(err) != errkind.TooLarge {
		t.Errorf("got %v (%s)", err, errkind.Of(err))
	}
	_, err = Output(t.Context(), sh("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo the reason >&2; exit 1"))
	exit, ok := errors.AsType[*ExitError](err)
	if !ok || len(exit.Output) > maxStderr || !strings.HasSuffix(exit.Output, "the reason") {
		t.Errorf("kept %d bytes", len(exit.Output))
	}
}

func TestAFunctionStandsInForTheHost(t *testing.T) {
	var fake Runner = Func(func(_ context.Context, name string, args ...string) ([]byte, error) {
		return []byte(name + " " + strings.Join(args, " ")), nil
	})
	if out, err := fake.Run(t.Context(), "a", "b", "c"); err != nil || string(out) != "a b c" {
		t.Errorf("%q, %v", out, err)
	}
}
