package cli

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client/clienttest"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"trident": func() { os.Exit(Main()) }})
}

var update = flag.Bool("update", false, "rewrite golden files and scripts")

// The scripts run the real command line against a Trident in memory that serves
// a unix socket.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("SOURCE_DATE_EPOCH", "1700000000")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command takes a second
			env.Setenv("SOCK", filepath.Join(env.WorkDir, "root/run/trident/trident.sock"))
			env.Values["server"] = new(*clienttest.Server)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serve, "exits": exits, "until": until, "boot": boot, "tree": tree,
			"unbundle": unbundle, "nowhere": nowhere,
			"uki": makeUKI, "disk": makeDisk, "web": web,
		},
	})
}

// serve NAME starts a daemon of that kind on the socket "sock".
func serve(ts *testscript.TestScript, _ bool, args []string) {
	config, ok := scenarios()[args[0]]
	if !ok {
		ts.Fatalf("no scenario %q", args[0])
	}
	s := clienttest.New(config)
	ts.Check(s.Listen(ts.MkAbs("sock")))
	ts.Defer(s.Close)
	*ts.Value("server").(**clienttest.Server) = s
}

// exits CODE COMMAND… wants this exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// until uploads N, until cancelled, until FILE TEXT: waits for what a command in
// the background does.
func until(ts *testscript.TestScript, _ bool, args []string) {
	s := *ts.Value("server").(**clienttest.Server)
	ok := func() bool {
		text, _ := os.ReadFile(ts.MkAbs(args[0]))
		return strings.Contains(string(text), args[1])
	}
	switch args[0] {
	case "uploads":
		want, err := strconv.Atoi(args[1])
		ts.Check(err)
		ok = func() bool { return len(s.Uploads()) == want }
	case "cancelled":
		ok = func() bool { return s.Cancels() > 0 }
	}
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("it does not happen: %v", args)
		}
	}
}

const (
	undoing = operationsv1.Phase_PHASE_UNDOING
	done    = operationsv1.Phase_PHASE_DONE
	undone  = operationsv1.Phase_PHASE_UNDONE
)

// scenarios are the daemons that scripts can serve.
func scenarios() map[string]clienttest.Config {
	unhealthy := &operationsv1.Failure{
		Reason: "UNHEALTHY", Message: "prove: Trident 3.0.0 exited 4 times within 2 s", Hint: "read the log in the evidence",
	}
	untrusted := &operationsv1.Failure{Reason: "UNTRUSTED", Message: "verify: check signature of image: the image is not signed"}
	return map[string]clienttest.Config{
		"healthy": {
			Version: "1.0.0", NextVersion: "2.0.0", Status: exampleStatus(), History: exampleHistory(), Operations: exampleOperations(),
			Script: upgradeEvents(),
		},
		"unhealthy": {
			Version: "1.0.0", NextVersion: "1.0.0", Status: statusAfterRollback(), Script: []*operationsv1.Event{
				clienttest.Step(0, "activate", nil), clienttest.Step(0, "prove", nil),
				clienttest.Step(undoing, "prove", unhealthy), clienttest.Step(undoing, "activate", unhealthy), clienttest.Step(undone, "activate", unhealthy),
			},
		},
		"untrusting": {Version: "1.0.0", Script: []*operationsv1.Event{
			clienttest.Step(0, "verify", nil), clienttest.Step(undoing, "verify", untrusted), clienttest.Step(undone, "verify", untrusted),
		}},
		"busy": {Version: "1.0.0", Refuse: grpckind.Error(errkind.WithHint(
			errkind.Errorf(errkind.Busy, "operation op-7 (upgrade Trident to 2.0.0) is running"), "wait for it: trident operation watch op-7"), nil)},
		"stubborn": {Version: "1.0.0", IgnoreCancel: true, Script: []*operationsv1.Event{clienttest.Step(0, "fetch", nil)}},
		"endless":  {Version: "1.0.0", Script: []*operationsv1.Event{clienttest.Step(0, "fetch", nil)}},
	}
}

func upgradeEvents() []*operationsv1.Event {
	return []*operationsv1.Event{
		clienttest.Step(0, "fetch", nil),
		clienttest.Progress("fetch", 1<<20, 4<<20),
		clienttest.Progress("fetch", 4<<20, 4<<20),
		clienttest.Step(0, "verify", nil),
		clienttest.Log("verify", operationsv1.Severity_SEVERITY_INFO, "signed by CN=Trident"),
		clienttest.Log("verify", operationsv1.Severity_SEVERITY_DEBUG, "1024 blocks"),
		clienttest.Step(0, "restart", nil),
		clienttest.Restart("restart"),
		clienttest.Step(0, "prove", nil),
		clienttest.Step(done, "settle", nil),
	}
}

func TestEveryScriptIsRun(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) < 5 {
		t.Errorf("scripts %v, error %v", scripts, err)
	}
}
