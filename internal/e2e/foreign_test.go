//go:build !outside

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// foreignClient builds the client of module foreign, which nobody can import, and
// returns a call of it that tells what was said and fails when anything was
// answered otherwise than its tables have it.
func foreignClient(t *testing.T) func(args ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "foreign")
	goTool(t, "foreign", "build", "-ldflags=-s -w", "-o", program, ".")
	return func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return string(out)
	}
}

func goTool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// daemonOn runs tridentd for the host below a folder, and returns its socket.
func daemonOn(t *testing.T, root string) string {
	t.Helper()
	program, socket := filepath.Join(t.TempDir(), "tridentd"), filepath.Join(root, "s")
	goTool(t, "../..", "build", "-ldflags=-s -w", "-o", program, "./cmd/tridentd")
	cmd := exec.Command(program, "--root", root, "--socket", socket, "--log-level", "error")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("tridentd: %v", err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return socket
}

func TestAClientMadeFromTheSnapshotOfTheWireDrivesEveryMethod(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds two programs")
	}
	t.Parallel()
	root, err := os.MkdirTemp("", "foreign-") // a path that a socket's address has room for
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	said := foreignClient(t)("-socket", daemonOn(t, root))
	wire, err := os.ReadFile("../../proto/testdata/wire.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(wire)) {
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '(' })
		if len(words) < 4 || words[0] != "service" || words[2] != "method" {
			continue
		}
		if method := words[1] + "/" + words[3]; !strings.Contains(said, method+" ") {
			t.Errorf("%s is not driven: run make generate, and give it a line in foreign", method)
		}
	}
}
