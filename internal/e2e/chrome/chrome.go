// Package chrome runs scripts that drive Chromium, by Playwright. Node.js, npm and Chromium are
// those of this machine.
package chrome

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Install installs what the scripts import into dir, and copies the scripts there.
func Install(ctx context.Context, dir, scripts string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(scripts, "*.mjs"))
	if err != nil {
		return err
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	_, err = run(ctx, dir, nil, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error", "playwright-core@1.65.1", "axe-core@4.14.1")
	return err
}

// Drive runs a script of dir with env, in addition to the environment of this process, and
// returns its output.
func Drive(ctx context.Context, dir, script string, env ...string) (string, error) {
	return run(ctx, dir, env, "node", script)
}

func run(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run %s %v: %w\n%s", name, args, err, out)
	}
	return string(out), nil
}
