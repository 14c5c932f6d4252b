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

// TestTheManifestFitsTheSchemaOfKubernetes runs kubernetes-validate, which carries the schema
// of each release of Kubernetes, over the example and over a copy with a misspelt key.
func TestTheManifestFitsTheSchemaOfKubernetes(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	call := func(name string, args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		return string(out), err
	}
	venv := filepath.Join(dir, "venv")
	if out, err := call("python3", "-m", "venv", venv); err != nil {
		t.Skipf("no virtual environment of Python: %v\n%s", err, out)
	}
	if out, err := call(venv+"/bin/pip", "install", "--quiet", "kubernetes-validate==1.37.0"); err != nil {
		t.Skipf("pip cannot install kubernetes-validate: %v\n%s", err, out)
	}
	const manifest = "../../docs/examples/container/daemonset.yaml"
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte(strings.Replace(string(text), "hostPID", "hostPid", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, release := range []string{"1.30", "1.37"} {
		if out, err := call(venv+"/bin/kubernetes-validate", "--strict", "-k", release, manifest); err != nil || !strings.Contains(out, "passed") {
			t.Errorf("Kubernetes %s: %v\n%s", release, err, out)
		}
		if out, err := call(venv+"/bin/kubernetes-validate", "--strict", "-k", release, bad); err == nil || !strings.Contains(out, "hostPid") {
			t.Errorf("Kubernetes %s takes a misspelt key: %v\n%s", release, err, out)
		}
	}
}
