package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The test binary is tridentd when its first argument says so.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "as-tridentd" {
		os.Exit(run(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func tridentd(args ...string) *exec.Cmd {
	return exec.Command(os.Args[0], append([]string{"as-tridentd"}, args...)...)
}

type result struct {
	Code        int
	Out, Stderr string
}

func TestArguments(t *testing.T) {
	dir := t.TempDir()
	rubbish := filepath.Join(dir, "rubbish")
	if err := os.WriteFile(rubbish, []byte(strings.Repeat("rubbish ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want result
	}{
		{"version", []string{"--version"}, result{0, "tridentd 0.0.0-dev\n", ""}},
		{"probe", []string{"--probe"}, result{0, "{\"version\":\"0.0.0-dev\",\"ok\":true}\n", ""}},
		{"probe of a datastore", []string{"--probe", "--datastore", filepath.Join(dir, "new")},
			result{0, "{\"version\":\"0.0.0-dev\",\"ok\":true}\n", ""}},
		{"probe of what is none", []string{"--probe", "--datastore", rubbish}, result{1, "",
			"tridentd: probe: open datastore " + rubbish + ": file is not a database (26); the datastore has no backup\n" +
				"hint: the file is unchanged; move the file and rubbish.bak aside to begin with an empty history\n"}},
		{"too much", []string{"--version", "now"}, result{2, "", "tridentd: \"now\" is not an option; see tridentd --help\n"}},
		{"a socket in a place that is none", []string{"--root", dir, "--socket", "/dev/null/s"},
			result{1, "", "tridentd: listen on /dev/null/s: mkdir /dev/null: not a directory\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := tridentd(c.args...)
			var out, stderr strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &stderr
			_ = cmd.Run() // its code is looked at
			if diff := cmp.Diff(c.want, result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAContainerWithoutItsHostGetsOneError(t *testing.T) {
	root := filepath.Join(t.TempDir(), "host")
	cmd := tridentd("--root", root)
	cmd.Env = append(os.Environ(), "DOCKER_ENVIRONMENT=true")
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	_ = cmd.Run() // its code is looked at
	want := result{1, "", "tridentd: service the host from a container: the container does not see the host's root folder at " + root + "\n" +
		"hint: start the container with the option --volume /:/host:rslave; the option --root of tridentd names another folder\n"}
	if diff := cmp.Diff(want, result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAnUnknownOptionIsAUsageError(t *testing.T) {
	cmd := tridentd("--dance")
	out, _ := cmd.CombinedOutput() // its code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), "-dance") {
		t.Errorf("code %d\n%s", code, out)
	}
}

// What is logged before the daemon has been built has the form of its log, too: a copy
// of the datastore that is a folder cannot be renewed.
func TestEveryLineOfStderrIsALogRecord(t *testing.T) {
	root := t.TempDir()
	store := filepath.Join(root, "var/lib/trident")
	if err := os.MkdirAll(filepath.Join(store, "datastore.sqlite.restored/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := tridentd("--root", root)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tidied := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		tidied = tidied || strings.Contains(lines.Text(), "delete temporary copies of the datastore")
		if !strings.HasPrefix(lines.Text(), "time=") {
			t.Errorf("line %q", lines.Text())
		}
		if strings.Contains(lines.Text(), "tridentd serves") {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !tidied {
		t.Errorf("%v; it was tidied: %v", err, tidied)
	}
}

func TestASignalStopsTheDaemonWithSuccess(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := tridentd("--root", t.TempDir())
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stderr)
			var last string
			for lines.Scan() {
				last = lines.Text()
				if strings.Contains(last, "tridentd serves") {
					if err := cmd.Process.Signal(sig); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := cmd.Wait(); err != nil || !strings.Contains(last, "tridentd stopped") {
				t.Errorf("%v, its last words were %q", err, last)
			}
		})
	}
}
