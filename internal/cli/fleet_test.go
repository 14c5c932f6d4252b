package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// fleet starts a daemon for each configuration, and gives them the names of the map in a
// hosts.yaml, with the label name=NAME; a nil configuration is a host that does not answer.
// All have the label of=fleet.
func fleet(t *testing.T, configs map[string]*clienttest.Config) map[string]*clienttest.Server {
	t.Helper()
	t.Setenv("TRIDENT_HOST", "")
	t.Setenv("TRIDENT_SOCKET", "")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	folder := t.TempDir()
	text := "version: 1\nhosts:\n"
	servers := map[string]*clienttest.Server{}
	for name, config := range configs {
		socket := filepath.Join(folder, name)
		text += fmt.Sprintf("  %s: {endpoints: ['unix:%s'], labels: {of: fleet, name: %s}}\n", name, socket, name)
		if config == nil {
			continue
		}
		servers[name] = clienttest.New(*config)
		t.Cleanup(servers[name].Close)
		if err := servers[name].Listen(socket); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "trident/hosts.yaml")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return servers
}

// trident runs a command line.
func trident(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	a, out, errs := commandtest.New()
	code = execute(t.Context(), a, args)
	return code, out.String(), errs.String()
}

func three() map[string]*clienttest.Config {
	return map[string]*clienttest.Config{"a": {Version: "1.0.0"}, "b": {Version: "2.0.0"}, "down": nil}
}

func TestACommandOnSeveralHostsPrintsARowForEach(t *testing.T) {
	fleet(t, three())
	code, stdout, stderr := trident(t, "self", "status", "--host", "b,a")
	lines := strings.Split(stdout, "\n")
	if code != 0 || stderr != "" || len(lines) < 3 || !strings.HasPrefix(lines[0], "HOST  RUNNING") ||
		!strings.HasPrefix(lines[1], "b     2.0.0") || !strings.HasPrefix(lines[2], "a     1.0.0") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	for _, selected := range [][]string{{"--label", "name=a"}, {"--host", "a", "--host", "a"}, {"--host", "a,b", "--label", "name=a"}} {
		// A list of one host has the form of a list.
		if _, stdout, stderr = trident(t, append([]string{"version"}, selected...)...); !strings.HasPrefix(stdout, "a  client: ") || strings.Count(stdout, "\n") != 1 {
			t.Errorf("%v:\n%s%s", selected, stdout, stderr)
		}
	}
	t.Setenv("TRIDENT_HOST", "a,b")
	if code, stdout, _ = trident(t, "version"); code != 0 || strings.Count(stdout, "\n") != 2 {
		t.Errorf("TRIDENT_HOST: exit code %d:\n%s", code, stdout)
	}
}

func TestOneHostPrintsWhatItsSocketPrints(t *testing.T) {
	fleet(t, three())
	path := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "trident/hosts.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, socket, _ := strings.Cut(string(text), "a: {endpoints: ['unix:")
	socket, _, _ = strings.Cut(socket, "'")
	for _, args := range [][]string{{"version"}, {"self", "status"}, {"self", "status", "--output", "json"}, {"operation", "list"}, {"get", "--output", "yaml"}} {
		code, stdout, stderr := trident(t, append(args, "--socket", socket)...)
		for _, host := range []string{"a", "unix:" + socket} {
			gotCode, out, errs := trident(t, append(args, "--host", host)...)
			if diff := cmp.Diff([]any{code, stdout, stderr}, []any{gotCode, out, errs}); diff != "" {
				t.Errorf("%v --host %s (-socket +host):\n%s", args, host, diff)
			}
		}
	}
}

func TestErrorsOfHostsAreMarkedAndTheExitCodeIsTheWorst(t *testing.T) {
	fleet(t, map[string]*clienttest.Config{"a": {Version: "1"}, "down": nil, "gone": nil})
	code, stdout, stderr := trident(t, "version", "--host", "a,down,gone")
	if code != exitSetup || !strings.Contains(stdout, "a     client: ") || !strings.Contains(stderr, "trident: down: ask for the daemon's version: ") ||
		!strings.Contains(stderr, " (retriable)\nhint: There is no such socket.") || !strings.HasSuffix(stderr, "trident: 2 of 3 hosts failed: down, gone\n") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	_, _, stderr = trident(t, "update", "/none", "--host", "a,down")
	if want := "trident: a, down: update the host: read Host Configuration: open /none: no such file or directory (permanent)\n"; !strings.Contains(stderr, want) {
		t.Errorf("the same error of two hosts:\n%s", stderr)
	}
}

func TestProgramsGetAnArray(t *testing.T) {
	fleet(t, three())
	code, stdout, stderr := trident(t, "version", "--label", "of=fleet", "--output", "json")
	var got []struct {
		Host   string
		Result struct{ Daemon string }
		Error  *struct {
			Kind, Message, Hint string
			Retriable           bool
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v in:\n%s", err, stdout)
	}
	if code != exitSetup || len(got) != 3 || got[0].Result.Daemon != "1.0.0" || got[1].Host != "b" || got[1].Error != nil ||
		got[2].Host != "down" || got[2].Error == nil || got[2].Error.Kind != "UNAVAILABLE" || !got[2].Error.Retriable || got[2].Error.Hint == "" {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
	if want := `{"kind":"UNAVAILABLE","message":"1 of 3 hosts failed: down","hint":""}` + "\n"; stderr != want {
		t.Errorf("standard error %q", stderr)
	}
	if code, stdout, _ = trident(t, "operation", "list", "--host", "a,b", "-o", "yaml"); code != 0 || !strings.HasPrefix(stdout, "- host: a\n  result:\n") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
}

func TestTheWorstExitCodeIsThatOfTheHostThatNeedsAPersonMost(t *testing.T) {
	of := func(kinds ...errkind.Kind) (errs []error) {
		for _, k := range kinds {
			errs = append(errs, &client.HostError{Host: string(k), Err: errkind.Errorf(k, "x")})
		}
		return errs
	}
	for name, tt := range map[string]struct {
		errs []error
		want int
		kind string
	}{
		"none":              {[]error{nil, nil}, 0, ""},
		"busy":              {append(of(errkind.Busy), nil), 6, "BUSY"},
		"busy and refused":  {of(errkind.Busy, errkind.Untrusted), 5, "UNTRUSTED"},
		"refused, rolled":   {of(errkind.Untrusted, errkind.Unhealthy, errkind.Busy), 7, "UNHEALTHY"},
		"rolled and failed": {of(errkind.Unhealthy, errkind.Internal), 2, "INTERNAL"},
		"timed out":         {append(of(errkind.Internal), &client.HostError{Host: "x", Err: command.ErrTimedOut}), 124, "TIMEOUT"},
		"interrupted":       {append(of(errkind.Internal), &client.HostError{Host: "x", Err: command.ErrInterrupted}), 130, "CANCELLED"},
	} {
		err := ofHosts(tt.errs)
		if got := exitCode(err); got != tt.want {
			t.Errorf("%s: exit code %d, want %d", name, got, tt.want)
		}
		if several, ok := errors.AsType[*hostErrors](err); ok && several.worstKind() != tt.kind {
			t.Errorf("%s: kind %s, want %s", name, several.worstKind(), tt.kind)
		}
	}
}

func TestServicingShowsTheProgressOfEachHost(t *testing.T) {
	script := []*operationsv1.Event{
		clienttest.Step(operationsv1.Phase_PHASE_DOING, "fetch", nil), clienttest.Log("fetch", operationsv1.Severity_SEVERITY_INFO, "fetched it"),
		clienttest.Step(operationsv1.Phase_PHASE_DONE, "fetch", nil),
	}
	broken := []*operationsv1.Event{
		clienttest.Step(operationsv1.Phase_PHASE_DOING, "fetch", nil),
		clienttest.Step(operationsv1.Phase_PHASE_UNDOING, "fetch", &operationsv1.Failure{Reason: "UNTRUSTED", Message: "no key"}),
		clienttest.Step(operationsv1.Phase_PHASE_UNDONE, "fetch", &operationsv1.Failure{Reason: "UNTRUSTED", Message: "no key"}),
	}
	servers := fleet(t, map[string]*clienttest.Config{"a": {Version: "1", Script: script}, "b": {Version: "1", Script: broken}})
	image := filepath.Join(t.TempDir(), "image.raw")
	if err := os.WriteFile(image, []byte("the image"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := trident(t, "self", "stage", image, "--host", "a,b")
	if code != exitRefused {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"a: fetch\n", "b: fetch\n", "a:   fetched it\n", "b: fetch failed; undoing its steps\n", "trident: b: stage Trident: no key (permanent)\n", "1 of 2 hosts failed: b\n"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in:\n%s", want, stderr)
		}
	}
	if !strings.HasPrefix(stdout, "a  Done: ") || strings.Count(stdout, "\n") != 1 {
		t.Errorf("standard output:\n%s", stdout)
	}
	for name, s := range servers {
		if got := s.Uploads(); len(got) != 1 || string(got[0]) != "the image" {
			t.Errorf("%s got %d images", name, len(got))
		}
	}
}

func TestEventsOfSeveralHostsNameTheirHost(t *testing.T) {
	script := []*operationsv1.Event{clienttest.Step(operationsv1.Phase_PHASE_DOING, "fetch", nil), clienttest.Step(operationsv1.Phase_PHASE_DONE, "fetch", nil)}
	fleet(t, map[string]*clienttest.Config{"a": {Version: "1", Script: script}, "b": {Version: "1", Script: script}})
	if code, _, stderr := trident(t, "self", "stage", "https://example.com/x.raw", "--host", "a,b"); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	code, stdout, stderr := trident(t, "operation", "watch", "--events", "--host", "a,b")
	seen := map[string]int{}
	for line := range strings.Lines(stdout) {
		var e struct {
			Host  string
			Event *struct{ Sequence string }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Event == nil {
			t.Errorf("%v in %s", err, line)
		}
		seen[e.Host]++
	}
	if code != 0 || seen["a"] == 0 || seen["a"] != seen["b"] {
		t.Errorf("exit code %d, events %v:\n%s", code, seen, stderr)
	}
}

func TestStandardInputIsReadOnceForAllHosts(t *testing.T) {
	script := []*operationsv1.Event{clienttest.Step(operationsv1.Phase_PHASE_DONE, "begin", nil)}
	servers := fleet(t, map[string]*clienttest.Config{"a": {Version: "1", Script: script}, "b": {Version: "1", Script: script}})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin := os.Stdin
	os.Stdin = r
	defer func() { os.Stdin = stdin }()
	go func() {
		_, _ = w.WriteString("os: {}\n")
		_ = w.Close()
	}()
	_, stdout, stderr := trident(t, "update", "-", "--host", "a,b")
	for name, s := range servers {
		if got := s.Configs(); !slices.Contains(got, "os: {}\n") {
			t.Errorf("%s got %q:\n%s%s", name, got, stdout, stderr)
		}
	}
}

func TestWrongNamesOfHostsAreOneError(t *testing.T) {
	fleet(t, three())
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"unknown":             {[]string{"version", "--host", "a,c"}, `trident: --host: "c" is not a host of `},
		"empty":               {[]string{"version", "--host", "a,,b"}, "trident: --host has an empty name\nhint: see: trident version --help\n"},
		"no such label":       {[]string{"version", "--label", "x=y"}, "trident: --label: select hosts: no host of "},
		"no label":            {[]string{"version", "--label", "x"}, `trident: --label: "x" is not NAME=VALUE`},
		"an option":           {[]string{"self", "status", "--host", "ssh://-oProxyCommand=x"}, `"-oProxyCommand=x" is not the name of a host`},
		"with a socket":       {[]string{"version", "--host", "a", "--socket", "x"}, "trident: --host and the flags for a socket exclude each other"},
		"with a server":       {[]string{"grpc-client", "-s", "unix:///x", "version", "--host", "a"}, "trident: --host and the flags for a socket exclude each other"},
		"no parallel":         {[]string{"version", "--host", "a", "--parallel", "0"}, "trident: --parallel is 0, and must be from 1 to 1000"},
		"a local tool":        {[]string{"image", "inspect", "x", "--host", "a"}, "trident: trident image inspect works on this machine alone: omit --host"},
		"a local label":       {[]string{"diagnose", "--output", "x", "--label", "a=b"}, "trident: trident diagnose works on this machine alone: omit --label"},
		"one file":            {[]string{"get", "--outfile", "x", "--host", "a,b"}, "trident: --outfile names one file, and the command works on several hosts"},
		"a status file":       {[]string{"commit", "--status", "x", "--host", "a,b"}, "trident: --status names one file"},
		"a wrong flag":        {[]string{"version", "--host", "a,b", "--nope"}, "trident: unknown flag: --nope"},
		"a wrong combination": {[]string{"rollback", "--ab", "--runtime", "--host", "a,b"}, "trident: --ab and --runtime exclude each other\n"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := trident(t, tt.args...)
			if code != exitFailed && code != exitSetup || stdout != "" || !strings.Contains(stderr, tt.want) || strings.Count("\n"+stderr, "\ntrident: ") != 1 {
				t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
			}
		})
	}
	t.Setenv("TRIDENT_HOST", "a")
	t.Setenv("TRIDENT_SOCKET", "/x")
	if _, _, stderr := trident(t, "version"); !strings.Contains(stderr, "trident: TRIDENT_HOST and TRIDENT_SOCKET exclude each other: unset one") {
		t.Errorf("both variables:\n%s", stderr)
	}
	if code, _, stderr := trident(t, "hosts", "list"); code != 0 {
		t.Errorf("a local tool with TRIDENT_HOST: %s", stderr)
	}
}

func TestAnInterruptReachesEveryHost(t *testing.T) {
	hold := []*operationsv1.Event{clienttest.Step(operationsv1.Phase_PHASE_DOING, "fetch", nil)} // it goes on for ever
	fleet(t, map[string]*clienttest.Config{"a": {Version: "1", Script: hold}, "b": {Version: "1", Script: hold}})
	ctx, interrupt := context.WithCancelCause(t.Context())
	a, _, stderr := commandtest.New()
	a.Stderr = &trigger{text: stderr.Write, on: map[string]bool{"a: fetch\n": true, "b: fetch\n": true}, do: func() { interrupt(command.ErrInterrupted) }}
	code := execute(ctx, a, []string{"self", "stage", "https://example.com/x.raw", "--host", "a,b"})
	if code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	for _, host := range []string{"a", "b"} {
		if !strings.Contains(stderr.String(), "trident operation watch ") || !strings.Contains(stderr.String(), "--host "+host) {
			t.Errorf("no way back to %s in:\n%s", host, stderr)
		}
	}
}

// trigger calls do once all texts of on were written.
type trigger struct {
	text func([]byte) (int, error)
	on   map[string]bool
	do   func()
}

func (w *trigger) Write(p []byte) (int, error) {
	if delete(w.on, string(p)); len(w.on) == 0 {
		w.do()
	}
	return w.text(p)
}

func TestHostsAreCompletedAndCompletionsAskOneHost(t *testing.T) {
	fleet(t, three())
	if code, stdout, _ := trident(t, "__complete", "version", "--host", ""); code != 0 || !strings.HasPrefix(stdout, "a\nb\ndown\n") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
	for _, value := range []string{"a,b", "nobody"} {
		t.Setenv("TRIDENT_HOST", value)
		if code, stdout, stderr := trident(t, "__complete", "operation", "show", ""); code != 0 || !strings.HasPrefix(stdout, ":") {
			t.Errorf("TRIDENT_HOST=%s: exit code %d:\n%s%s", value, code, stdout, stderr)
		}
	}
	if code, stdout, stderr := trident(t, "self"); code != 0 || !strings.Contains(stdout, "Usage:") {
		t.Errorf("the help of a group: exit code %d:\n%s%s", code, stdout, stderr)
	}
}

func TestHostsThatWereNotBegunSayWhy(t *testing.T) {
	fleet(t, three())
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(command.ErrInterrupted)
	a, stdout, stderr := commandtest.New()
	if code := execute(ctx, a, []string{"operation", "list", "--host", "a,b", "--parallel", "1"}); code != exitInterrupted || stdout.Len() > 0 {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	if want := "trident: a, b: interrupted (permanent)\ntrident: 2 of 2 hosts failed: a, b\n"; stderr.String() != want {
		t.Errorf("standard error %q", stderr)
	}
}

func TestAHostIsReachedThroughTheSSHOfItsEntry(t *testing.T) {
	fleet(t, nil)
	path := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "trident/hosts.yaml")
	ssh := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\necho \"$*\" >&2\nexit 255\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "version: 1\nhosts: {a: {endpoints: ['ssh://root@a'], sshCommand: ['" + ssh + "', -v], remoteCommand: [sudo, trident, dial-stdio]}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := trident(t, "operation", "list", "--host", "a")
	if want := "trident: list operations: connect to tridentd at ssh://root@a: ssh failed: -v -T -o BatchMode=yes -- root@a sudo trident dial-stdio\nhint: Try: ssh root@a\n"; code != exitSetup || stderr != want {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}
