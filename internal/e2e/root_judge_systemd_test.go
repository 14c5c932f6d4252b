//go:build root

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/systemd"
)

// TestTheRescuerJudgesRealProcesses runs TestJudgeInsideContainer in a container
// that has Trident's units, its daemon and its rescuer.
func TestTheRescuerJudgesRealProcesses(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "../../cmd/tridentd", "../../cmd/trident-rescue")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	init := bootContainer(t, nil)
	root := fmt.Sprintf("/proc/%d/root", init)
	rounds := killRoundsInside()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute+time.Duration(rounds)*5*time.Second)
	defer cancel()
	for from, to := range map[string]string{
		os.Args[0]:                       "e2e.test",
		bin + "/tridentd":                "usr/bin/tridentd",
		bin + "/trident-rescue":          rescue.Program,
		"../../systemd/tridentd.service": "etc/systemd/system/tridentd.service",
		"../../systemd/tridentd.socket":  "etc/systemd/system/tridentd.socket",
	} {
		to = filepath.Join(root, to)
		if out, err := exec.CommandContext(ctx, "install", "-D", from, to).CombinedOutput(); err != nil {
			t.Fatalf("copy into the container: %v: %s", err, out)
		}
	}
	cmd := exec.CommandContext(ctx, "nsenter", "-t", fmt.Sprint(init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--",
		"/e2e.test", "-test.v", "-test.run=^TestJudgeInsideContainer$")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", inside + "=1", roundsVar + "=" + strconv.Itoa(rounds)}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestJudgeInsideContainer/")) {
		t.Errorf("in the container: %v", err)
	}
	t.Logf("%s", out)
}

// roundsVar says how many rounds of kills there are; 12 by default.
const roundsVar = "TRIDENT_KILL_ROUNDS"

func killRoundsInside() int {
	rounds, err := strconv.Atoi(os.Getenv(roundsVar))
	if err != nil {
		return 12
	}
	return rounds
}

// trialInside is a trial whose target is the daemon of the container.
type trialInside struct {
	*testing.T
	bus  *systemd.Bus
	file rescue.File
	id   string
}

func (t *trialInside) run(words string) string {
	t.Helper()
	args := strings.Fields(words)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", words, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (t *trialInside) begin(id string) {
	t.Helper()
	t.id = id
	t.run("systemctl restart tridentd.service")
	target, err := rescue.SystemHost{Root: "/"}.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = t.file.Begin(rescue.Record{Operation: id, Target: rescue.Side{Version: target}, Previous: rescue.Side{Version: "1.0.0"}, Deadline: 3600, Activating: true, Restarting: true})
	if err != nil {
		t.Fatal(err)
	}
	err = t.bus.StartTransient(t.Context(), t.rescuer(), systemd.Transient{Exec: []string{"/" + rescue.Program, "watch"}, Restart: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.until("it is witnessed", func(r rescue.Record) bool { return r.Witnessed })
}

func (t *trialInside) rescuer() string { return "trident-rescue-" + t.id + ".service" }

// until waits until the record of the trial is so.
func (t *trialInside) until(what string, so func(rescue.Record) bool) rescue.Record {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		r, err := t.file.Trial(t.id)
		if err == nil && so(r) {
			return r
		}
		if time.Now().After(end) {
			t.Fatalf("never: %s; %+v, %v\n%s", what, r, err, t.run("journalctl --no-pager -n 30 -u trident*"))
		}
	}
}

// kill sends a signal to the main process of a unit, once it has one.
func (t *trialInside) kill(signal syscall.Signal, unit string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if pid, _ := strconv.Atoi(t.run("systemctl show --property=MainPID --value " + unit)); pid > 0 {
			if err := syscall.Kill(pid, signal); err != nil && err != syscall.ESRCH {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%s has no process", unit)
}

// looksOn waits for some more looks of the rescuer.
func (t *trialInside) looksOn() {
	time.Sleep(6 * time.Second)
}

func (t *trialInside) end() {
	t.Helper()
	if err := t.bus.Stop(t.Context(), t.rescuer()); err != nil {
		t.Error(err)
	}
	err := t.file.Update(t.id, func(r *rescue.Record) error {
		if r.Verdict == "" {
			r.Verdict = rescue.Returned
		}
		return nil
	})
	if err != nil && !errors.Is(err, rescue.ErrNoTrial) {
		t.Error(err)
	}
}

func TestJudgeInsideContainer(t *testing.T) {
	if os.Getenv(inside) == "" {
		t.Skip("only in a container, as a part of another test")
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	in := &trialInside{T: t, bus: systemd.Connect(ctx, systemd.PrivateSocket), file: rescue.File{Dir: filepath.Join("/", rescue.Dir)}}
	in.run("systemctl daemon-reload")
	in.run("systemctl start tridentd.socket")
	sub := func(name string, test func(*trialInside)) {
		t.Run(name, func(t *testing.T) {
			one := *in
			one.T = t
			one.begin(strings.ReplaceAll(name, " ", "-"))
			defer one.end()
			test(&one)
		})
	}
	sub("kills of both are nobodys fault", func(t *trialInside) {
		rounds, seed := killRoundsInside(), rand.Uint64()
		t.Logf("%d rounds, seed %d", rounds, seed)
		random := rand.New(rand.NewPCG(seed, 0))
		for range rounds {
			time.Sleep(time.Duration(random.Int64N(int64(3 * time.Second))))
			if random.IntN(3) > 0 {
				t.kill(syscall.SIGKILL, "tridentd.service")
			}
			if random.IntN(2) > 0 {
				t.kill(syscall.SIGKILL, t.rescuer())
			}
			if r, err := t.file.Trial(t.id); err != nil || r.Returning || r.Watches != 1 {
				t.Fatalf("%+v, %v\n%s", r, err, t.run("journalctl --no-pager -n 40 -u trident*"))
			}
		}
		t.looksOn()
		if r, err := t.file.Trial(t.id); err != nil || r.Returning {
			t.Errorf("%+v, %v", r, err)
		}
		if err := t.file.Keep(t.id); err != nil {
			t.Error(err)
		}
	})
	sub("a crash in the soak is", func(t *trialInside) {
		t.kill(syscall.SIGABRT, "tridentd.service")
		r := t.until("it is given up", func(r rescue.Record) bool { return r.Returning })
		if r.Reason != "it stopped after it had answered" || r.Blameless {
			t.Errorf("%+v", r)
		}
	})
	sub("a socket that is removed is made again", func(t *trialInside) {
		if err := os.Remove("/" + rescue.Socket); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); rescue.IsSocketDown("/"); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it is gone still\n%s", t.run("journalctl --no-pager -n 40 -u trident*"))
			}
		}
		t.looksOn()
		if r, err := t.file.Trial(t.id); err != nil || r.Returning {
			t.Errorf("%+v, %v", r, err)
		}
		if _, err := (rescue.SystemHost{Root: "/"}).Version(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("a socket that is removed while there is no trial is made again", func(t *testing.T) {
		in.run("systemctl start tridentd.service")
		if err := os.Remove("/" + rescue.Socket); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(2 * time.Minute); rescue.IsSocketDown("/"); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it is gone still\n%s", in.run("journalctl --no-pager -n 40 -u trident*"))
			}
		}
	})
}
