//go:build outside

package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tufXfails are the tests of tuf-conformance that the client does not pass: go-tuf does not
// verify a role again that two roles delegate. The host reads only the role of its channel,
// which the targets role delegates.
const tufXfails = "test_cached_role_is_verified_against_current_delegator\n"

// TestTheReaderOfFeedsPassesTheConformanceSuiteOfTUF runs the suite tuf-conformance against the
// code that reads an update feed. pip installs the suite, or its sources from the folder
// TRIDENT_TUF_CONFORMANCE.
func TestTheReaderOfFeedsPassesTheConformanceSuiteOfTUF(t *testing.T) {
	for _, tool := range []string{"python3", "faketime"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not there", tool)
		}
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	call := func(name string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := call("python3", "-m", "venv", "venv"); err != nil {
		t.Skipf("no virtual environment of Python: %v\n%s", err, out)
	}
	suite := os.Getenv("TRIDENT_TUF_CONFORMANCE")
	if suite == "" {
		suite = "tuf-conformance"
	}
	if out, err := call("venv/bin/pip", "install", "--quiet", suite); err != nil {
		t.Skipf("pip cannot install %s: %v\n%s", suite, err, out)
	}
	program := filepath.Join(dir, "updates.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "outside", "-o", program, "./internal/updates")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the client: %v\n%s", err, out)
	}
	client := filepath.Join(dir, "client")
	if err := os.WriteFile(client, []byte("#!/bin/sh\nTRIDENT_TUF_CLIENT=1 exec "+program+" \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(client+".xfails", []byte(tufXfails), 0o600); err != nil {
		t.Fatal(err)
	}
	tests, err := call("venv/bin/python", "-c", "import tuf_conformance; print(tuf_conformance.__path__[0])")
	if err != nil {
		t.Fatalf("%v\n%s", err, tests)
	}
	out, err := call("venv/bin/python", "-m", "pytest", "-q", "--entrypoint", client, strings.TrimSpace(tests))
	if err != nil || !strings.Contains(out, " passed") {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	t.Log(lines[len(lines)-1])
}
