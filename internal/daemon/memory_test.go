package daemon

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

// A collector that knows nothing of MemoryMax= keeps what is not needed any more until the
// kernel ends the process.
func TestTheCollectorKeepsBelowWhatTheControlGroupAllows(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	root := shortDir(t)
	for name, text := range map[string]string{
		"proc/self/cgroup": "0::/system.slice/tridentd.service\n",
		"sys/fs/cgroup/system.slice/tridentd.service/memory.max": "2147483648\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for env, want := range map[string]int64{"": 1536 << 20, "1GiB": before} {
		debug.SetMemoryLimit(before)
		t.Setenv("GOMEMLIMIT", env)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := Run(ctx, testConfig(root)); err != nil {
			t.Fatal(err)
		}
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("with GOMEMLIMIT=%q the limit is %d, want %d", env, got, want)
		}
	}
}
