package product

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A target of the Makefile that began meanwhile would put its version into dist/stage,
// and so into the package that is made here.
func TestNoOtherBuildRunsWhileAPackageOrAnImageIsMade(t *testing.T) {
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("flock(1) is not here")
	}
	dir := t.TempDir()
	script := "#!/bin/sh\necho >>runs\nif flock --nonblock dist/.lock true; then touch alone; fi\necho a b\n"
	for name, text := range map[string]string{"go.mod": "module x\n", "dist/.lock": "", "packaging/keys": script, "packaging/sysext": script} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Chdir(dir)
	// What the scripts print leads to no key and no package: that they ran is enough.
	_, _ = New(t.Context(), filepath.Join(dir, "products"))
	m := &Maker{root: dir, dir: dir}
	_, _ = m.RPM(t.Context(), "1.0.0")
	_, _ = m.Image(t.Context(), "1.0.0")
	if runs, err := os.ReadFile("runs"); err != nil || len(runs) != 3 {
		t.Errorf("%d scripts ran, not 3: %v", len(runs), err)
	}
	if _, err := os.Stat("alone"); err == nil {
		t.Error("a script ran while anybody could take dist/.lock")
	}
}
