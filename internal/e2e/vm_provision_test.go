//go:build vm

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/e2e/osimage"
)

// provisionLimit is how long a machine may take from its first boot to its report, with a busy
// machine that emulates it.
const provisionLimit = 40 * time.Minute

// The machine has an empty disk, and knows nothing but its CD. The installed system has the
// agent, so that the command follows the operation into it, and reports to a server as to one
// of upstream's.
func TestAnEmptyMachineIsProvisionedFromTheLiveImage(t *testing.T) {
	lap := stopwatch(t)
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	iso := liveImage(t)
	lap("live image")
	agent, err := f.maker.Daemon(t.Context(), "./cmd/trident-gateway", "1.0.0-agent")
	if err != nil {
		t.Fatal(err)
	}
	img := buildSystem(t, osimage.Spec{Version: "1.0.0", Mutate: func(tree string) error { return addAgent(tree, agent) }})
	lap("OS image")

	reports := &orchestrator{}
	server := httptest.NewServer(reports)
	defer server.Close()
	seenByGuest := strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)
	dir := t.TempDir()
	config, disk := filepath.Join(dir, "host.yaml"), filepath.Join(dir, "machine.raw")
	text := hostedImage{img, "http://192.0.2.1/served-by-the-command.cosi"}.config(
		"trident: {phonehome: " + seenByGuest + "/phonehome, logstream: " + seenByGuest + "/logstream}\n")
	text = strings.Replace(text, "/dev/disk/by-id/virtio-disk0", "/dev/vda", 1)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if serial, err := os.ReadFile(disk + ".log"); t.Failed() && err == nil {
			t.Logf("the serial port of the machine:\n%s", serial[max(0, len(serial)-16<<10):])
		}
	})
	said := provision(t, f.trident, config, "--iso", iso, "--image", img.Path, "--qemu", disk, "--qemu-size", "5G", "--qemu-memory", "2G",
		"--qemu-emulate", "--with-agent", "--call-time", "20m", "--reboot-time", "20m", "--output", "json")
	t.Log(said.errs)
	lap("provisioned")
	if said.code != 0 {
		t.Fatalf("exit code %d: %s", said.code, said.out)
	}
	var got struct {
		Name, Address, Disk string
		Connected           bool
	}
	if err := json.Unmarshal([]byte(said.out), &got); err != nil || got.Name != "lab-installed" || got.Address != "127.0.0.1" || got.Disk != disk || !got.Connected {
		t.Errorf("%s, %v", said.out, err)
	}
	for _, want := range []string{"Waiting for lab-installed to connect to 10.0.2.2:", "The machine has connected from 127.0.0.1"} {
		if !strings.Contains(said.errs, want) {
			t.Errorf("the command did not say %q", want)
		}
	}
	reports.check(t)
}

// provision runs the command to its end.
func provision(t *testing.T, trident, config string, flags ...string) commandResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), provisionLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, trident, append([]string{"provision", config}, flags...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends QEMU
	cmd.WaitDelay = time.Minute
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err, errs.String())
	}
	return commandResult{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// liveImage makes the live image as a release does, over a tree of Debian that the cache keeps.
func liveImage(t *testing.T) string {
	t.Helper()
	const root = "../.."
	packages, err := os.ReadFile(filepath.Join(root, "packaging/live/packages"))
	if err != nil {
		t.Fatal(err)
	}
	cache := os.Getenv("TRIDENT_CACHE")
	if cache == "" {
		if cache, err = os.UserCacheDir(); err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(cache, "trident-lab")
	}
	key := sha256.Sum256(packages)
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "live-iso", "VERSION="+base)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "TRIDENT_LIVE_BASE="+filepath.Join(cache, "live-"+hex.EncodeToString(key[:6])))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("make live-iso: %v\n%s", err, errs.String())
	}
	return filepath.Join(root, strings.TrimSpace(string(out)))
}

// addAgent has the agent in an OS image start at each boot.
func addAgent(tree, program string) error {
	const (
		unit  = "etc/systemd/system/trident-connect.service"
		wants = "etc/systemd/system/multi-user.target.wants/trident-connect.service"
		text  = "[Unit]\nAfter=tridentd.socket\n[Service]\nExecStart=/usr/bin/trident-gateway connect\nRestart=on-failure\n"
	)
	data, err := os.ReadFile(program)
	return errors.Join(
		err,
		os.WriteFile(filepath.Join(tree, "usr/bin/trident-gateway"), data, 0o755),
		os.WriteFile(filepath.Join(tree, unit), []byte(text), 0o644),
		os.MkdirAll(filepath.Dir(filepath.Join(tree, wants)), 0o755),
		os.Symlink("/"+unit, filepath.Join(tree, wants)),
	)
}

// orchestrator is a server that watches hosts as upstream's netlaunch does.
type orchestrator struct {
	mu             sync.Mutex
	states         []string // of phonehome, in their order
	lines, metrics int
}

func (o *orchestrator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err != nil || !json.Valid(body):
		http.Error(w, "not JSON", http.StatusBadRequest)
	case r.URL.Path == "/phonehome":
		var report struct{ State string }
		_ = json.Unmarshal(body, &report) // valid
		o.states = append(o.states, report.State)
	case r.URL.Path == "/logstream":
		o.lines++
	case r.URL.Path == "/tracestream":
		o.metrics++
	default:
		http.NotFound(w, r)
	}
}

// check checks what the host has told. The last report may come after the end of the
// operation, and so never: the command then ends the machine.
func (o *orchestrator) check(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	t.Logf("the host has reported %q, %d lines and %d metrics", o.states, o.lines, o.metrics)
	if len(o.states) < 2 || o.states[0] != "started" || slices.Contains(o.states, "failed") || o.lines == 0 || o.metrics == 0 {
		t.Error("the reports are not those of an installation")
	}
}
