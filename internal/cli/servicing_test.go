package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client/clienttest"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

// servicingDaemon answers upstream's calls and watches by what it is told.
type servicingDaemon struct {
	tridentv1.UnimplementedVersionServiceServer
	tridentv1.UnimplementedUpdateServiceServer
	tridentv1.UnimplementedCommitServiceServer
	tridentv1.UnimplementedStreamingServiceServer
	tridentv1preview.UnimplementedInstallServiceServer
	tridentv1preview.UnimplementedRollbackServiceServer
	operationsv1.UnimplementedOperationsServiceServer
	hostv1.UnimplementedHostServiceServer

	operation string // "" sends no header, as upstream
	unsound   bool   // the record of the host cannot be read
	messages  []*tridentv1.ServicingResponse
	lost      bool // the stream ends with its daemon
	events    []*operationsv1.Event
	// watched is closed when all events were sent of an operation that goes on.
	watched chan struct{}

	mu    sync.Mutex
	calls []string
}

func (d *servicingDaemon) called(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, name)
}

func (d *servicingDaemon) Version(context.Context, *tridentv1.VersionRequest) (*tridentv1.VersionResponse, error) {
	return &tridentv1.VersionResponse{Version: "1.0.0"}, nil
}

func (d *servicingDaemon) stream(name string, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	d.called(name)
	if d.operation != "" {
		if err := s.SendHeader(metadata.Pairs("trident-operation-id", d.operation)); err != nil {
			return err
		}
	}
	for _, m := range d.messages {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	if d.lost {
		return status.Error(codes.Unavailable, "gone")
	}
	return nil
}

func (d *servicingDaemon) Update(r *tridentv1.UpdateRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("Update "+r.GetStage().GetConfig().GetConfig()+r.GetFinalize().GetReboot().GetHandling().String(), s)
}

func (d *servicingDaemon) UpdateStage(r *tridentv1.StageUpdateRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("UpdateStage "+r.GetConfig().GetConfig(), s)
}

func (d *servicingDaemon) UpdateFinalize(r *tridentv1.FinalizeUpdateRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("UpdateFinalize "+r.GetReboot().GetHandling().String(), s)
}

func (d *servicingDaemon) Commit(_ *tridentv1.CommitRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("Commit", s)
}

func (d *servicingDaemon) StreamDisk(r *tridentv1.StreamDiskRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("StreamDisk "+r.GetImageUrl()+" "+r.GetImageHash()+r.GetReboot().GetHandling().String(), s)
}

func (d *servicingDaemon) Install(r *tridentv1preview.InstallRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("Install "+r.GetStage().GetConfig().GetConfig()+r.GetFinalize().GetReboot().GetHandling().String(), s)
}

func (d *servicingDaemon) InstallStage(r *tridentv1preview.StageInstallRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("InstallStage "+r.GetConfig().GetConfig(), s)
}

func (d *servicingDaemon) InstallFinalize(r *tridentv1preview.FinalizeInstallRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("InstallFinalize "+r.GetReboot().GetHandling().String(), s)
}

func (d *servicingDaemon) Rollback(r *tridentv1preview.RollbackRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("Rollback "+r.GetKind().String(), s)
}

func (d *servicingDaemon) RollbackStage(r *tridentv1preview.RollbackStageRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("RollbackStage "+r.GetKind().String(), s)
}

func (d *servicingDaemon) RollbackFinalize(_ *tridentv1preview.RollbackFinalizeRequest, s grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return d.stream("RollbackFinalize", s)
}

func (d *servicingDaemon) CheckRollback(_ context.Context, r *tridentv1preview.CheckRollbackRequest) (*tridentv1preview.CheckRollbackResponse, error) {
	kind := tridentv1preview.CheckRollbackKind_RUNTIME_ROLLBACK_EXPECTED
	if r.GetKind() == tridentv1preview.ManualRollbackKind_AB_ROLLBACK_REQUESTED {
		kind = tridentv1preview.CheckRollbackKind_NO_ROLLBACK_AVAILABLE
	}
	return &tridentv1preview.CheckRollbackResponse{Kind: kind}, nil
}

func (d *servicingDaemon) GetHost(context.Context, *hostv1.GetHostRequest) (*hostv1.GetHostResponse, error) {
	if d.unsound {
		return &hostv1.GetHostResponse{Phase: hostv1.HostPhase_HOST_PHASE_SETTLED, Datastore: &hostv1.DatastoreHealth{Message: "parse host status in row 7"}}, nil
	}
	return &hostv1.GetHostResponse{HostStatus: "servicingState: provisioned\n", Datastore: &hostv1.DatastoreHealth{Sound: true}}, nil
}

func (d *servicingDaemon) Watch(r *operationsv1.WatchRequest, s grpc.ServerStreamingServer[operationsv1.WatchResponse]) error {
	for i, e := range d.events {
		e.OperationId, e.Sequence = d.operation, uint64(i+1)
		if e.GetSequence() > r.GetAfterSequence() {
			if err := s.Send(&operationsv1.WatchResponse{Event: e}); err != nil {
				return err
			}
		}
	}
	if d.watched != nil {
		close(d.watched)
		<-s.Context().Done()
	}
	return nil
}

func (d *servicingDaemon) Get(context.Context, *operationsv1.GetRequest) (*operationsv1.GetResponse, error) {
	last := d.events[len(d.events)-1]
	return &operationsv1.GetResponse{Operation: &operationsv1.Operation{
		Id: d.operation, Summary: "update the host", Phase: last.GetPhase(), Failure: last.GetChange().GetFailure(), LastSequence: last.GetSequence(),
	}}, nil
}

// serve returns the path of the daemon's socket.
func (d *servicingDaemon) serve(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	tridentv1.RegisterVersionServiceServer(g, d)
	tridentv1.RegisterUpdateServiceServer(g, d)
	tridentv1.RegisterCommitServiceServer(g, d)
	tridentv1.RegisterStreamingServiceServer(g, d)
	tridentv1preview.RegisterInstallServiceServer(g, d)
	tridentv1preview.RegisterRollbackServiceServer(g, d)
	operationsv1.RegisterOperationsServiceServer(g, d)
	hostv1.RegisterHostServiceServer(g, d)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return socket
}

func started() *tridentv1.ServicingResponse {
	return &tridentv1.ServicingResponse{Response: &tridentv1.ServicingResponse_Started{Started: &tridentv1.Started{}}}
}

func completed(c *tridentv1.Completed) *tridentv1.ServicingResponse {
	return &tridentv1.ServicingResponse{Response: &tridentv1.ServicingResponse_Completed{Completed: c}}
}

func success(kind tridentv1.ServicingKind) *tridentv1.ServicingResponse {
	return completed(&tridentv1.Completed{Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, ServicingKind: &kind})
}

func unhealthyError() *tridentv1.TridentError {
	return &tridentv1.TridentError{
		Kind: tridentv1.TridentErrorKind_HEALTH_CHECKS_ERROR, Subkind: "health-checks-failed", ErrorMessage: "check web: it is dead",
		Message: "check web: it is dead\nread the log", Location: &tridentv1.FileLocation{Path: "internal/servicing/health.go", Line: 7},
	}
}

func logged(level tridentv1.LogLevel, text string) *tridentv1.ServicingResponse {
	return &tridentv1.ServicingResponse{Response: &tridentv1.ServicingResponse_Log{Log: &tridentv1.Log{Level: level, Message: text}}}
}

func waitsForReboot() *operationsv1.Event {
	e := clienttest.Step(1, "restart", nil)
	e.GetChange().Waiting = "reboot"
	return e
}

func TestServicingEndsAsUpstreamSays(t *testing.T) {
	t.Parallel()
	runtimeUpdate := success(tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE)
	failure := &operationsv1.Failure{Reason: "UNHEALTHY", Name: "HealthChecksFailed", Message: "health: check web: it is dead", Hint: "read the log"}
	for name, c := range map[string]struct {
		daemon             *servicingDaemon
		code               int
		stdout, stderr     string // that have to be there
		errorFile, notSaid string
	}{
		"done": {
			daemon: &servicingDaemon{operation: "op-1", messages: []*tridentv1.ServicingResponse{started(), runtimeUpdate},
				events: []*operationsv1.Event{clienttest.Step(1, "extensions", nil), clienttest.Step(done, "settle", nil)}},
			stdout: "Done: update the host.\n", stderr: "extensions\n",
		},
		"nothing to do, with upstream's log": {
			daemon: &servicingDaemon{messages: []*tridentv1.ServicingResponse{
				started(), logged(tridentv1.LogLevel_LOG_LEVEL_INFO, "all is\nwell"), logged(tridentv1.LogLevel_LOG_LEVEL_TRACE, "tiny"),
				success(tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED)}},
			stdout: "There was nothing to do.\n", stderr: "  all is well\n", notSaid: "tiny",
		},
		"an operation that failed": {
			daemon: &servicingDaemon{operation: "op-1", messages: []*tridentv1.ServicingResponse{started()},
				events: []*operationsv1.Event{clienttest.Step(1, "health", nil), clienttest.Step(undoing, "health", failure), clienttest.Step(undone, "begin", failure)}},
			code: 2, stderr: "trident: update the host: health: check web: it is dead\nhint: read the log\n",
			errorFile: "message: 'update the host: health: check web: it is dead'\nerror: health-checks-failed\ncategory: health-checks\nlocation: ''\ncause: null\n",
		},
		"a failure without an operation": {
			daemon: &servicingDaemon{messages: []*tridentv1.ServicingResponse{started(),
				completed(&tridentv1.Completed{Status: tridentv1.StatusCode_STATUS_CODE_FAILURE, Error: unhealthyError()})}},
			code: 2, stderr: "trident: update the host: check web: it is dead\nhint: read the log\n",
			errorFile: "message: |-\n  check web: it is dead\n  read the log\nerror: health-checks-failed\ncategory: health-checks\nlocation: internal/servicing/health.go:7\ncause: null\n",
		},
		"a stream lost to a restart, and all went well": {
			daemon: &servicingDaemon{operation: "op-1", lost: true, events: []*operationsv1.Event{clienttest.Step(done, "settle", nil)}},
			stdout: "Done: update the host.\n",
		},
		"a stream that breaks off": {
			daemon: &servicingDaemon{messages: []*tridentv1.ServicingResponse{started()}, lost: true}, code: 1, stderr: "gone",
		},
		"a stream without an end": {
			daemon: &servicingDaemon{messages: []*tridentv1.ServicingResponse{started()}}, code: 2, stderr: "did not report how the operation ended",
		},
		"a reboot that does not happen": {
			daemon: &servicingDaemon{operation: "op-1", messages: []*tridentv1.ServicingResponse{started()},
				events: []*operationsv1.Event{waitsForReboot()}, watched: make(chan struct{})},
			code: 3, stderr: "Requesting reboot", errorFile: "",
		},
		"a reboot that is ours": {
			daemon: &servicingDaemon{messages: []*tridentv1.ServicingResponse{started(), completed(&tridentv1.Completed{
				Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: tridentv1.RebootStatus_REBOOT_REQUIRED})}},
			code: 3, stderr: "Requesting reboot\nREBOOTING\n",
		},
		"a reboot of upstream's that does not happen": {
			daemon: &servicingDaemon{messages: []*tridentv1.ServicingResponse{started(), completed(&tridentv1.Completed{
				Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: tridentv1.RebootStatus_REBOOT_STARTED})}},
			code: 3, stderr: "Requesting reboot\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config, errorFile, statusFile := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "error"), filepath.Join(dir, "status")
			if err := os.WriteFile(config, []byte("os: {}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			a, stdout, stderr := commandtest.New()
			a.RebootTime = 50 * time.Millisecond
			a.Reboot = func(context.Context) error { fmt.Fprintln(a.Stderr, "REBOOTING"); return nil }
			code := execute(t.Context(), a, []string{"update", config, "-e", errorFile, "-s", statusFile, "--socket", c.daemon.serve(t)})
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) || c.notSaid != "" && strings.Contains(stderr.String(), c.notSaid) {
				t.Errorf("stdout:\n%sstderr:\n%s", stdout, stderr)
			}
			text, err := os.ReadFile(errorFile)
			if (err != nil) != (code == 0) || c.errorFile != "" && string(text) != c.errorFile {
				t.Errorf("error file %v:\n%s", err, text)
			}
			if text, err := os.ReadFile(statusFile); err != nil || string(text) != "servicingState: provisioned\n" {
				t.Errorf("status file %v:\n%s", err, text)
			}
		})
	}
}

// noticing closes a channel when a text was written to it.
type noticing struct {
	bytes.Buffer
	text    string
	noticed chan struct{}
}

func (n *noticing) Write(p []byte) (int, error) {
	if strings.Contains(string(p), n.text) {
		close(n.noticed)
	}
	return n.Buffer.Write(p)
}

func TestTheAwaitedShutdownIsSuccess(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]int{command.ErrTerminated: 0, command.ErrInterrupted: 130} {
		d := &servicingDaemon{operation: "op-1", messages: []*tridentv1.ServicingResponse{started()}, events: []*operationsv1.Event{waitsForReboot()}, watched: make(chan struct{})}
		a, _, _ := commandtest.New()
		stderr := &noticing{text: terminal.RequestingReboot, noticed: make(chan struct{})}
		a.Stderr, a.RebootTime = stderr, time.Minute
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan int)
		go func() { ended <- execute(ctx, a, []string{"commit", "--socket", d.serve(t)}) }()
		<-stderr.noticed
		cancel(cause)
		if code := <-ended; code != want {
			t.Errorf("%v: exit code %d, want %d:\n%s", cause, code, want, &stderr.Buffer)
		}
	}
}

func TestAllowedOperationsChooseTheCall(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(config, []byte("os: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"update " + config: "Update os: {}\nTRIDENT_HANDLES_REBOOT",
		"update --allowed-operations stage " + config:       "UpdateStage os: {}\n",
		"update --allowed-operations finalize":              "UpdateFinalize TRIDENT_HANDLES_REBOOT",
		"install " + config:                                 "Install os: {}\nTRIDENT_HANDLES_REBOOT",
		"install --allowed-operations stage " + config:      "InstallStage os: {}\n",
		"install --allowed-operations finalize":             "InstallFinalize TRIDENT_HANDLES_REBOOT",
		"grpc-client stream-disk https://h/x.cosi":          "StreamDisk https://h/x.cosi TRIDENT_HANDLES_REBOOT",
		"grpc-client stream-image oci://h/x --hash ignored": "StreamDisk oci://h/x ignoredTRIDENT_HANDLES_REBOOT",
		"commit":             "Commit",
		"rollback":           "Rollback ANY_ROLLBACK_REQUESTED",
		"rollback --runtime": "Rollback RUNTIME_ROLLBACK_REQUESTED",
		"rollback --ab --allowed-operations stage":                "RollbackStage AB_ROLLBACK_REQUESTED",
		"rollback --allowed-operations finalize":                  "RollbackFinalize",
		"rollback --check":                                        "",
		"grpc-client update --allowed-operations=stage " + config: "UpdateStage os: {}\n",
	} {
		d := &servicingDaemon{messages: []*tridentv1.ServicingResponse{started(), success(tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED)}}
		a, stdout, stderr := commandtest.New()
		code := execute(t.Context(), a, append(strings.Fields(args), "--socket", d.serve(t)))
		if code != 0 || strings.Join(d.calls, ";") != want {
			t.Errorf("%s: exit code %d, called %q, want %q\n%s", args, code, d.calls, want, stderr)
		}
		if args == "rollback --check" && stdout.String() != "runtime\n" {
			t.Errorf("stdout %q", stdout)
		}
	}
	d := &servicingDaemon{}
	a, stdout, _ := commandtest.New()
	if code := execute(t.Context(), a, []string{"rollback", "--check", "--ab", "--socket", d.serve(t)}); code != 0 || stdout.String() != "none\n" {
		t.Errorf("exit code %d, stdout %q", code, stdout)
	}
}

func TestTheCommandDoesNotRebootAnotherHost(t *testing.T) {
	t.Parallel()
	d := &servicingDaemon{messages: []*tridentv1.ServicingResponse{started(), completed(&tridentv1.Completed{
		Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: tridentv1.RebootStatus_REBOOT_REQUIRED})}}
	a, _, stderr := commandtest.New()
	a.RebootTime = time.Minute
	if code := execute(t.Context(), a, []string{"commit", "--socket", d.serve(t)}); code != 2 || !strings.Contains(stderr.String(), "may be another one than this") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}

func TestAStatusFileCanBeStandardOutput(t *testing.T) {
	t.Chdir(t.TempDir())
	d := &servicingDaemon{messages: []*tridentv1.ServicingResponse{started(), success(tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED)}}
	a, stdout, stderr := commandtest.New()
	if code := execute(t.Context(), a, []string{"commit", "-s", "-", "--socket", d.serve(t)}); code != 0 || !strings.Contains(stdout.String(), "servicingState: provisioned\n") {
		t.Errorf("exit code %d, stdout %q\n%s", code, stdout, stderr)
	}
	if _, err := os.Stat("-"); err == nil {
		t.Error("there is a file whose name is a hyphen")
	}
}

func TestADiskIsNotWrittenFromPlainHTTPWithoutAHash(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		begins bool
		says   string
	}{
		"http://h/x.cosi":                                           {false, "anybody on the network could replace"},
		"HTTP://h/x.cosi --hash ignored":                            {false, "--allow-unverified-http"},
		"http://h/x.cosi --allow-unverified-http":                   {true, "WARNING: without --hash"},
		"https://h/x.cosi":                                          {true, "WARNING: without --hash"},
		"http://h/x.cosi --hash sha384:" + strings.Repeat("ab", 48): {true, ""},
	} {
		a, _, stderr := commandtest.New()
		code := execute(t.Context(), a, append([]string{"grpc-client", "--server", "unix:///nowhere/x.sock", "stream-disk"}, strings.Fields(args)...))
		if asked := code == exitSetup; asked != want.begins || !strings.Contains(stderr.String(), want.says) || want.says == "" && strings.Contains(stderr.String(), "WARNING") {
			t.Errorf("%s: exit code %d, %s", args, code, stderr)
		}
	}
}

func TestAnEmptySHA256IsAnErrorAndRegistriesAreSources(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		"https://h/x.raw --sha256=":           "it is empty: give 64",
		"https://h/x.raw --fetch-timeout=-1s": "is negative",
		"/dev/zero":                           "/dev/zero is a character device, not a regular file",
		"s3://h/x.raw":                        "images come from http, https and oci URLs",
		"oci://h/x:1 --on-host":               "is a URL",
	} {
		for _, verb := range []string{"upgrade", "stage"} {
			a, _, stderr := commandtest.New()
			code := execute(t.Context(), a, append([]string{"self", verb, "--socket", "/nowhere/x.sock"}, strings.Fields(args)...))
			if code != exitFailed || !strings.Contains(stderr.String(), says) {
				t.Errorf("%s %s: exit code %d, %s", verb, args, code, stderr)
			}
		}
	}
	a, _, stderr := commandtest.New()
	if code := execute(t.Context(), a, []string{"self", "stage", "--socket", "/nowhere/x.sock", "oci://h/x:1"}); code != exitSetup {
		t.Errorf("from a registry: exit code %d, %s", code, stderr)
	}
}
