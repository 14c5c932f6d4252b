package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client/clienttest"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

func writtenFrom(hash string) *tridentv1.Completed {
	return &tridentv1.Completed{Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, ImageHash: &hash}
}

// serveMemory is a socket of a daemon that does what it is told, and a Host
// Configuration.
func serveMemory(t *testing.T, c clienttest.Config) (socket, config string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := clienttest.New(c)
	socket, config = filepath.Join(dir, "s"), filepath.Join(dir, "c.yaml")
	if err := s.Listen(socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := os.WriteFile(config, []byte("os: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return socket, config
}

func TestThePlanOfAnInstallationIsShown(t *testing.T) {
	t.Parallel()
	socket, config := serveMemory(t, clienttest.Config{InstallPlan: &hostv1.PlanInstallResponse{
		Text: "Install into volume-a\n\nDisk \"os\": /dev/vda\n  DESTROYS partition /dev/vda1, label \"a\x1b[2Jb\"\n",
		Storage: &hostv1.StoragePlan{Purpose: "install", Slot: "volume-a", Disks: []*hostv1.DiskPlan{{
			Id: "os", Path: "/dev/vda", Size: 1 << 40, Destroys: []*hostv1.Loss{{What: "partition", Path: "/dev/vda1"}},
		}}},
		Warnings: []*hostv1.Finding{{Line: 1, Column: 2, Path: "storage", Severity: hostv1.Severity_SEVERITY_WARNING, Message: "it is small"}},
	}})
	for format, want := range map[string][]string{
		"text": {"Install into volume-a\n\nDisk \"os\": /dev/vda\n  DESTROYS partition /dev/vda1, label \"a?[2Jb\"\n"},
		"json": {`"slot": "volume-a"`, `"size": "1099511627776"`, `"what": "partition"`, `"removable": false`},
		"yaml": {"storage:\n  purpose: install\n", "        - what: partition\n"},
	} {
		a, stdout, stderr := commandtest.New()
		code := execute(t.Context(), a, []string{"install", config, "--plan", "--output", format, "--socket", socket})
		if code != 0 || !strings.Contains(stderr.String(), "c.yaml:1:2: warning: storage: it is small\n") {
			t.Errorf("%s: exit code %d:\n%s", format, code, stderr)
		}
		for _, w := range want {
			if !strings.Contains(stdout.String(), w) {
				t.Errorf("%s: %q is not in:\n%s", format, w, stdout)
			}
		}
	}
}

func TestThePlanOfARebuildIsShown(t *testing.T) {
	t.Parallel()
	socket, _ := serveMemory(t, clienttest.Config{RebuildPlan: &hostv1.PlanRebuildResponse{
		Text:     "Steps of the servicing rebuild-raid:\n  add\n    add member b to array root\n",
		Steps:    []*hostv1.PlannedStep{{Name: "add", Actions: []*hostv1.Action{{Kind: "add-member", Object: "b"}}}},
		Warnings: []*hostv1.Finding{{Severity: hostv1.Severity_SEVERITY_WARNING, Message: "member b is missing"}},
	}})
	for format, want := range map[string]string{"text": "    add member b to array root\n", "json": `"kind": "add-member"`} {
		a, stdout, stderr := commandtest.New()
		code := execute(t.Context(), a, []string{"rebuild-raid", "--plan", "--output", format, "--socket", socket})
		if code != 0 || !strings.Contains(stdout.String(), want) || !strings.Contains(stderr.String(), "member b is missing") {
			t.Errorf("%s: exit code %d:\n%s%s", format, code, stdout, stderr)
		}
	}
}

func TestTheRecoveryKeyAndTheExtensionsArePrinted(t *testing.T) {
	t.Parallel()
	socket, config := serveMemory(t, clienttest.Config{
		RecoveryKey: []byte("cbdefghi-jklnrtuv"),
		Host: &hostv1.GetHostResponse{Extensions: []*hostv1.ActiveExtension{
			{Kind: "sysext", Path: "/var/lib/extensions/a.raw", Url: "http://x/a", Sha384: "ab"}, {Kind: "confext", Path: "/var/lib/confexts/b.raw", Sha384: "cd", Carried: true},
		}},
	})
	get := func(want int, args ...string) string {
		t.Helper()
		a, stdout, stderr := commandtest.New()
		if code := execute(t.Context(), a, append([]string{"get", "--socket", socket}, args...)); code != want {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
		return stdout.String() + stderr.String()
	}
	if got := get(0, "recovery-key"); got != "cbdefghi-jklnrtuv\n" {
		t.Errorf("the key: %q", got)
	}
	file := filepath.Join(filepath.Dir(config), "key")
	if got := get(0, "recovery-key", "--outfile", file); strings.Contains(got, "cbdefghi") {
		t.Errorf("the key is on the terminal, too: %q", got)
	}
	text, err := os.ReadFile(file)
	info, serr := os.Stat(file)
	if err != nil || serr != nil || string(text) != "cbdefghi-jklnrtuv" || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the key: %q, %v, %v, %v", text, info.Mode(), err, serr)
	}
	if got, want := get(0, "recovery-key", "--output", "json"), "\"cbdefghi-jklnrtuv\"\n"; got != want {
		t.Errorf("the key in JSON: %q", got)
	}
	want := "- kind: sysext\n  path: /var/lib/extensions/a.raw\n  url: http://x/a\n  sha384: ab\n  carried: false\n- kind: confext\n  path: /var/lib/confexts/b.raw\n  sha384: cd\n  carried: true\n"
	if got := get(0, "extensions"); got != want {
		t.Errorf("the extensions:\n%s", got)
	}
	socket, _ = serveMemory(t, clienttest.Config{})
	if got := get(2, "recovery-key"); !strings.Contains(got, "has made no recovery key") {
		t.Errorf("without a key: %q", got)
	}
}

func TestThePlanOfAnUpdateIsShown(t *testing.T) {
	t.Parallel()
	socket, config := serveMemory(t, clienttest.Config{Plan: &hostv1.PlanUpdateResponse{
		Kind:     tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE,
		Text:     "Steps of the servicing runtime-update:\n  files\n    write /etc/\x1b[2Ja\n",
		Steps:    []*hostv1.PlannedStep{{Name: "files", Actions: []*hostv1.Action{{Kind: "write-file", Object: "/etc/a", Message: "write /etc/a"}}}},
		Warnings: []*hostv1.Finding{{Severity: hostv1.Severity_SEVERITY_WARNING, Message: "it is late"}},
	}})
	for format, want := range map[string][]string{
		"text": {"Steps of the servicing runtime-update:\n  files\n    write /etc/?[2Ja\n"},
		"json": {`"kind": "SERVICING_KIND_RUNTIME_UPDATE"`, `"object": "/etc/a"`, `"name": "files"`},
		"yaml": {"steps:\n  - name: files\n"},
	} {
		a, stdout, stderr := commandtest.New()
		code := execute(t.Context(), a, []string{"update", config, "--plan", "--output", format, "--socket", socket})
		if code != 0 || !strings.Contains(stderr.String(), "c.yaml: warning: it is late\n") {
			t.Errorf("%s: exit code %d:\n%s", format, code, stderr)
		}
		for _, w := range want {
			if !strings.Contains(stdout.String(), w) {
				t.Errorf("%s: %q is not in:\n%s", format, w, stdout)
			}
		}
	}
}

func TestCommitPrintsTheStateOfTheHost(t *testing.T) {
	t.Parallel()
	failure := &operationsv1.Failure{Reason: "UNHEALTHY", Name: "HealthChecksFailed", Message: "health: unit x is down"}
	for name, c := range map[string]struct {
		config         clienttest.Config
		code           int
		stdout, stderr string
	}{
		"kept": {
			config: clienttest.Config{
				Host:   &hostv1.GetHostResponse{ServicingState: "provisioned", ActiveVolume: "volume-b"},
				Script: []*operationsv1.Event{clienttest.Step(1, "health", nil), clienttest.Step(done, "settle", nil)},
			},
			stdout: "The host is provisioned, and runs from volume-b. (commit the host)\n", stderr: "health\n",
		},
		"thrown back": {
			config: clienttest.Config{
				Host:   &hostv1.GetHostResponse{ServicingState: "provisioned", ActiveVolume: "volume-a"},
				Script: []*operationsv1.Event{clienttest.Step(undoing, "health", failure), clienttest.Step(undone, "stage", failure)},
			},
			code: 2, stderr: "What was booted was not kept. The host is provisioned, and runs from volume-a.\n" +
				"trident: commit the host: health: unit x is down\n",
		},
		"nothing": {config: clienttest.Config{NothingToDo: true}, stdout: "There was nothing to do.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, _ := serveMemory(t, c.config)
			a, stdout, stderr := commandtest.New()
			if code := execute(t.Context(), a, []string{"commit", "--socket", socket}); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if diff := cmp.Diff(c.stdout, stdout.String()); diff != "" || !strings.HasSuffix(stderr.String(), c.stderr) {
				t.Errorf("stdout (-want +got):\n%s\nstderr:\n%s", diff, stderr)
			}
		})
	}
}

func TestTheWrittenImageIsNamed(t *testing.T) {
	t.Parallel()
	hash := "sha384:" + strings.Repeat("ab", 48)
	socket, _ := serveMemory(t, clienttest.Config{
		Script:    []*operationsv1.Event{clienttest.Step(1, "write", nil), clienttest.Step(done, "table", nil)},
		Completed: writtenFrom(hash),
	})
	a, stdout, _ := commandtest.New()
	code := execute(t.Context(), a, []string{"grpc-client", "--server", "unix://" + socket, "stream-disk", "https://h/x.cosi"})
	if want := "Done: write disks from an image.\nThe image is " + hash + ".\n"; code != 0 || stdout.String() != want {
		t.Errorf("exit code %d, stdout:\n%s", code, stdout)
	}
}

func TestADiskThatIsWrittenEndsWithTheReboot(t *testing.T) {
	t.Parallel()
	socket, _ := serveMemory(t, clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(1, "write", nil), clienttest.Reboot("reboot")}})
	a, stdout, stderr := commandtest.New()
	a.RebootTime = 50 * time.Millisecond
	code := execute(t.Context(), a, []string{"grpc-client", "--server", "unix://" + socket, "stream-disk", "https://h/x.cosi", "--hash", "sha384:" + strings.Repeat("ab", 48)})
	want := "write\nRequesting reboot\ntrident: write the disk: the reboot did not happen within 50ms\n"
	if diff := cmp.Diff(want, stderr.String()); code != 3 || diff != "" || stdout.Len() != 0 {
		t.Errorf("exit code %d, stdout %q, stderr (-want +got):\n%s", code, stdout, diff)
	}
}

func TestALostDaemonAfterARebootRequestIsARebootedHost(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := clienttest.New(clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(1, "write", nil), clienttest.Reboot("reboot")}})
	socket := filepath.Join(dir, "s")
	if err := s.Listen(socket); err != nil {
		t.Fatal(err)
	}
	a, stdout, _ := commandtest.New()
	stderr := &noticing{text: terminal.RequestingReboot, noticed: make(chan struct{})}
	a.Stderr, a.RebootTime, a.Silence = stderr, time.Minute, 50*time.Millisecond
	ended := make(chan int)
	go func() {
		ended <- execute(t.Context(), a, []string{"grpc-client", "--server", "unix://" + socket, "stream-disk", "https://h/x.cosi"})
	}()
	<-stderr.noticed
	s.Close()
	if code := <-ended; code != 0 || stdout.String() != "Done: write disks from an image.\n" {
		t.Errorf("exit code %d, stdout %q, stderr:\n%s", code, stdout, &stderr.Buffer)
	}
}
