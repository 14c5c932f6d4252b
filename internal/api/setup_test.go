package api

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
	"github.com/trident-project/trident/proto/wire"
)

func shake(t *testing.T, f *fixture, req *setupv1.HandshakeRequest) *setupv1.HandshakeResponse {
	t.Helper()
	resp, err := setupv1.NewSetupServiceClient(f.conn).Handshake(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestAHandshakeSaysWhoServes(t *testing.T) {
	f := newFixture(t)
	const machine = "0123456789abcdef0123456789abcdef\n"
	if err := os.MkdirAll(filepath.Join(f.root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.root, "etc/machine-id"), []byte(machine), 0o444); err != nil {
		t.Fatal(err)
	}
	got := shake(t, f, &setupv1.HandshakeRequest{
		ClientName: "fleet\nagent", ClientVersion: "7.0", ApiPackages: []string{"trident.v9"}, RequiredCapabilities: wire.Capabilities(true),
	})
	want := &setupv1.HandshakeResponse{
		ServerVersion: "1.2.3",
		ApiPackages: []string{"trident.handles.v1", "trident.host.v1", "trident.machine.v1", "trident.operations.v1", "trident.self.v1",
			"trident.setup.v1", "trident.v1", "trident.v1preview"},
		Capabilities: wire.Capabilities(true),
		Limits: &setupv1.Limits{
			MaxMessageBytes: 1<<20 + 64<<10, MaxChunkBytes: 1 << 20, MaxStreams: 100, MaxConnections: 64, MaxHandles: 16,
			MaxHandleBytes: 4 << 30, MaxConfigBytes: 1 << 20, MaxList: 1000,
		},
		HostId: got.GetHostId(), DaemonId: got.GetDaemonId(),
	}
	if !proto.Equal(want, got) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if len(got.GetHostId()) != 32 || strings.Contains(machine, got.GetHostId()) || got.GetDaemonId() == "" {
		t.Errorf("host %q, daemon %q", got.GetHostId(), got.GetDaemonId())
	}
	other := newFixture(t)
	if resp := shake(t, other, &setupv1.HandshakeRequest{}); resp.GetHostId() != "" || resp.GetDaemonId() == got.GetDaemonId() {
		t.Errorf("another daemon on a host without an ID is %q, %q", resp.GetHostId(), resp.GetDaemonId())
	}
	if !strings.Contains(f.log.String(), `client="fleet?agent 7.0"`) {
		t.Errorf("the log does not name the client:\n%s", f.log)
	}
}

func TestALackingCapabilityIsNamed(t *testing.T) {
	f := newFixture(t)
	_, err := setupv1.NewSetupServiceClient(f.conn).Handshake(t.Context(), &setupv1.HandshakeRequest{
		ClientName: "eager", RequiredCapabilities: []string{"operations", "time-travel", "tea", "tea"},
	})
	_, _, meta := grpckind.FromError(err)
	if status.Code(err) != codes.FailedPrecondition || meta[grpckind.MetaCapabilities] != "time-travel,tea" || meta[grpckind.MetaHint] == "" {
		t.Errorf("%v, metadata %v", err, meta)
	}
	if _, err := tridentv1.NewVersionServiceClient(f.conn).Version(t.Context(), &tridentv1.VersionRequest{}); err != nil {
		t.Errorf("a client that was refused is not served as one that never asked: %v", err)
	}
	if strings.Contains(f.log.String(), "client=eager") {
		t.Error("what a refused client said of itself holds")
	}
}

// A client that requires a missing capability learns the reason, if that capability is about
// replacing Trident.
func TestATridentThatCannotBeReplacedLacksCapabilitiesAndSaysWhy(t *testing.T) {
	fixed := errkind.WithHint(errkind.Errorf(errkind.Unsupported, "it is in a container"), "pull an image")
	missing := missingOf(Config{Fixed: fixed})
	s := &setupServer{version: "1.2.3", can: capabilities(missing, true), missing: missing, hostID: func() string { return "" }}
	got, err := s.Handshake(t.Context(), &setupv1.HandshakeRequest{RequiredCapabilities: []string{wire.ABUpdate, wire.RuntimeUpdate, wire.Operations}})
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(wire.Capabilities(true), func(name string) bool { return slices.Contains(wire.SelfServicing(), name) })
	if diff := cmp.Diff(want, got.GetCapabilities()); diff != "" || len(want) != len(wire.Capabilities(true))-len(wire.SelfServicing()) {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	_, err = s.Handshake(t.Context(), &setupv1.HandshakeRequest{RequiredCapabilities: []string{wire.SelfUpgrade}})
	if kind, hint, _ := grpckind.FromError(err); kind != errkind.Precondition || hint != "pull an image" || !strings.Contains(err.Error(), "self-upgrade: it is in a container") {
		t.Errorf("%s: %v; %s", kind, err, hint)
	}
	_, err = s.Handshake(t.Context(), &setupv1.HandshakeRequest{RequiredCapabilities: []string{"time-travel"}})
	if _, hint, _ := grpckind.FromError(err); strings.Contains(err.Error(), "container") || hint == "pull an image" {
		t.Errorf("another missing capability has the same reason: %v; %s", err, hint)
	}
}

func TestAHostWithoutSystemdLacksCapabilitiesAndSaysWhy(t *testing.T) {
	missing := missingOf(Config{NoSystemd: errkind.WithHint(errkind.Errorf(errkind.Unsupported, "no systemd here"), "use another tool")})
	can := capabilities(missing, true)
	for _, name := range []string{wire.MachineUnits, wire.MachinePower, wire.MachineMounts} {
		if slices.Contains(can, name) {
			t.Errorf("the daemon has %s", name)
		}
	}
	if len(can) != len(wire.Capabilities(true))-3 {
		t.Errorf("capabilities %q", can)
	}
	s := &setupServer{version: "1.2.3", can: can, missing: missing, hostID: func() string { return "" }}
	_, err := s.Handshake(t.Context(), &setupv1.HandshakeRequest{RequiredCapabilities: []string{"time-travel", wire.MachineUnits}})
	if _, hint, _ := grpckind.FromError(err); hint != "use another tool" || !strings.Contains(err.Error(), "time-travel, machine-units: no systemd here") {
		t.Errorf("%v; %s", err, hint)
	}
}

func TestAnAnswerOverTheClientsLimitIsAnError(t *testing.T) {
	f := newFixture(t)
	for range 2 {
		id := f.work(strings.Repeat("long ", 4000))
		f.goAhead <- nil
		f.goAhead <- nil
		for _, err := range f.runner.Watch(t.Context(), id, 0) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	client := operationsv1.NewOperationsServiceClient(f.conn)
	if _, err := client.List(t.Context(), &operationsv1.ListRequest{}); err != nil {
		t.Errorf("without a handshake: %v", err)
	}
	shake(t, f, &setupv1.HandshakeRequest{Limits: &setupv1.Limits{MaxMessageBytes: leastMessage}})
	if _, err := client.List(t.Context(), &operationsv1.ListRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a list over the limit: %v", err)
	}
	if _, err := client.List(t.Context(), &operationsv1.ListRequest{Unsettled: true}); err != nil {
		t.Errorf("a list below the limit: %v", err)
	}
	shake(t, f, &setupv1.HandshakeRequest{})
	if _, err := client.List(t.Context(), &operationsv1.ListRequest{}); err != nil {
		t.Errorf("after another handshake: %v", err)
	}
	_, err := setupv1.NewSetupServiceClient(f.conn).Handshake(t.Context(), &setupv1.HandshakeRequest{Limits: &setupv1.Limits{MaxMessageBytes: 1}})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a limit of one byte: %v", err)
	}
}

// Each capability has a proof; most are the first use of what they name.
func TestEveryCapabilityIsImplemented(t *testing.T) {
	proofs := map[string]func(*testing.T, *fixture){
		"config-handles": func(t *testing.T, f *fixture) { openConfig(t, f.conn, "a: b") },
		"host-plan": func(t *testing.T, f *fixture) {
			req := &hostv1.PlanUpdateRequest{Config: &hostv1.PlanUpdateRequest_Text{Text: "{}"}}
			if _, err := hostv1.NewHostServiceClient(f.conn).PlanUpdate(t.Context(), req); err != nil {
				t.Error(err)
			}
		},
		"host-status": func(t *testing.T, f *fixture) {
			if _, err := hostv1.NewHostServiceClient(f.conn).GetHost(t.Context(), &hostv1.GetHostRequest{}); err != nil {
				t.Error(err)
			}
		},
		"host-validation": func(t *testing.T, f *fixture) {
			req := &hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_Text{Text: faulty}}
			if resp, err := hostv1.NewHostServiceClient(f.conn).ValidateConfig(t.Context(), req); err != nil || len(resp.GetFindings()) < 2 {
				t.Errorf("%v, %v", resp, err)
			}
		},
		"image-handles": func(t *testing.T, f *fixture) { openImage(t, f.conn, sysext, "bytes") },
		"message-limit": func(t *testing.T, f *fixture) {
			shake(t, f, &setupv1.HandshakeRequest{Limits: &setupv1.Limits{MaxMessageBytes: leastMessage}})
		},
		"operations": func(t *testing.T, f *fixture) {
			if _, err := operationsv1.NewOperationsServiceClient(f.conn).Get(t.Context(), &operationsv1.GetRequest{Id: f.work("work")}); err != nil {
				t.Error(err)
			}
		},
		"pause": func(t *testing.T, _ *fixture) {
			for in, want := range map[selfv1.Pause]string{
				selfv1.Pause_PAUSE_UNSPECIFIED: "", selfv1.Pause_PAUSE_BEFORE_ACTIVATE: "arm rescue", selfv1.Pause_PAUSE_BEFORE_RESTART: "restart",
			} {
				if trial, err := trialFromWire(&selfv1.Trial{Pause: in}); err != nil || trial.PauseBefore != want {
					t.Errorf("%s: %+v, %v", in, trial, err)
				}
			}
			if _, err := trialFromWire(&selfv1.Trial{Pause: 9}); errkind.Of(err) != errkind.Invalid {
				t.Errorf("a pause that is not defined: %v", err)
			}
		},
		"request-ids": func(t *testing.T, f *fixture) {
			f.host.step = talks
			first, again := updateNamed(t, f, "a"), updateNamed(t, f, "a")
			if first.header.Get(wire.HeaderOperation)[0] != again.header.Get(wire.HeaderOperation)[0] {
				t.Errorf("headers %v and %v", first.header, again.header)
			}
		},
		"self-image-handle": func(t *testing.T, f *fixture) {
			stageHandle(t, f, openImage(t, f.conn, trident, "no image").GetImageHandle())
		},
		"runtime-rollback": func(t *testing.T, f *fixture) {
			f.host.step = talks
			read1(tridentv1preview.NewRollbackServiceClient(f.conn).Rollback(t.Context(), &tridentv1preview.RollbackRequest{})).completed(t)
		},
		"runtime-update": func(t *testing.T, f *fixture) {
			f.host.step = talks
			read1(tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), updateOf("{}"))).completed(t)
		},
		"self-upgrade": func(t *testing.T, f *fixture) {
			if _, err := selfv1.NewSelfServiceClient(f.conn).GetStatus(t.Context(), &selfv1.GetStatusRequest{}); err != nil {
				t.Error(err)
			}
		},
		"ab-rollback": func(t *testing.T, f *fixture) {
			f.host.step, f.host.outcome.Kind = talks, servicing.ABRollback
			got := read1(tridentv1preview.NewRollbackServiceClient(f.conn).Rollback(t.Context(), &tridentv1preview.RollbackRequest{})).completed(t)
			if got.GetServicingKind() != tridentv1.ServicingKind_SERVICING_KIND_MANUAL_ROLLBACK_AB {
				t.Errorf("completed %v", got)
			}
		},
		"ab-update": func(t *testing.T, f *fixture) {
			f.host.step, f.host.outcome.Kind = talks, servicing.ABUpdate
			got := read1(tridentv1.NewUpdateServiceClient(f.conn).Update(t.Context(), updateOf("{}"))).completed(t)
			if got.GetServicingKind() != tridentv1.ServicingKind_SERVICING_KIND_AB_UPDATE {
				t.Errorf("completed %v", got)
			}
		},
		"check-root": func(t *testing.T, f *fixture) {
			f.host.step = talks
			read1(tridentv1preview.NewCommitServiceClient(f.conn).CheckRoot(t.Context(), &tridentv1preview.CheckRootRequest{})).completed(t)
		},
		"install":               func(t *testing.T, f *fixture) { installed(t, t.Context(), f, configOf("{}")) },
		"install-config-handle": func(t *testing.T, f *fixture) { installByHandle(t, f) },
		"install-multiboot": func(t *testing.T, f *fixture) {
			ctx := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderMultiboot, "true")
			if got := installed(t, ctx, f, configOf("{}")); !got.Multiboot {
				t.Errorf("asked for %+v", got)
			}
		},
		"install-plan": func(t *testing.T, f *fixture) {
			req := &hostv1.PlanInstallRequest{Config: &hostv1.PlanInstallRequest_Text{Text: "{}"}}
			if _, err := hostv1.NewHostServiceClient(f.conn).PlanInstall(t.Context(), req); err != nil {
				t.Error(err)
			}
		},
		"rebuild-plan": func(t *testing.T, f *fixture) {
			if _, err := hostv1.NewHostServiceClient(f.conn).PlanRebuild(t.Context(), &hostv1.PlanRebuildRequest{}); err != nil {
				t.Error(err)
			}
		},
		"recovery-key": func(t *testing.T, f *fixture) {
			req := &hostv1.GetRecoveryKeyRequest{OperationId: "one"}
			if _, err := hostv1.NewHostServiceClient(f.conn).GetRecoveryKey(t.Context(), req); err != nil {
				t.Error(err)
			}
		},
		"stream-disk": func(t *testing.T, f *fixture) {
			streamed(t, f, &tridentv1.StreamDiskRequest{ImageUrl: "https://x/y.cosi"})
		},
		"stream-disk-limits": streamedWithin,
		"fetch-timeout": func(t *testing.T, _ *fixture) {
			in := &selfv1.Source{From: &selfv1.Source_Url{Url: "https://x/y.raw"}, FetchTimeout: durationpb.New(5 * time.Second)}
			if src, err := (&selfServer{}).sourceFromWire(t.Context(), in, nil); err != nil || src.Timeout != 5*time.Second {
				t.Errorf("%+v, %v", src, err)
			}
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(wire.HeaderFetchTimeout, "7"))
			if n, err := numberFromWire(ctx, wire.HeaderFetchTimeout, "seconds"); err != nil || n != 7 {
				t.Errorf("%d, %v", n, err)
			}
		},
		"update-feed": func(t *testing.T, f *fixture) {
			if err := os.MkdirAll(f.root+"/usr/lib", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f.root+"/usr/lib/os-release", []byte("ID=test\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := selfv1.NewSelfServiceClient(f.conn).CheckUpdates(t.Context(), &selfv1.CheckUpdatesRequest{})
			if err != nil || len(got.GetReasons()) != 1 || got.GetReasons()[0].GetKind() != selfv1.ReasonKind_REASON_KIND_NO_FEED {
				t.Errorf("%v, %v", got, err)
			}
		},
		"machine-system": func(t *testing.T, f *fixture) {
			got, err := machinev1.NewSystemServiceClient(f.conn).GetLoad(t.Context(), &machinev1.GetLoadRequest{})
			if err != nil || got.GetTasksTotal() == 0 {
				t.Errorf("%v, %v", got, err)
			}
		},
		"machine-capture": func(t *testing.T, _ *fixture) { TestPowerAndPacketsAreServed(t) },
		"machine-files":   func(t *testing.T, _ *fixture) { TestFilesAreServed(t) },
		"machine-logs":    func(t *testing.T, _ *fixture) { TestAServerThatStopsEndsTheStreams(t) },
		"machine-mounts":  func(t *testing.T, _ *fixture) { TestMountsAreServed(t) },
		"machine-power":   func(t *testing.T, _ *fixture) { TestPowerAndPacketsAreServed(t) },
		"machine-reset": func(t *testing.T, f *fixture) {
			if _, err := machinev1.NewResetServiceClient(f.conn).PlanReset(t.Context(), &machinev1.PlanResetRequest{}); err != nil {
				t.Error(err)
			}
		},
		"machine-units":        func(t *testing.T, _ *fixture) { TestUnitsAreServed(t) },
		"update-config-handle": func(t *testing.T, f *fixture) { updateByHandle(t, f) },
		"self-upload":          func(t *testing.T, f *fixture) { stageUpload(t, t.Context(), f, 3, []byte("abc")) },
	}
	if got := wire.Capabilities(false); slices.Contains(got, "runtime-update") {
		t.Errorf("a daemon that cannot service its host says that it can: %v", got)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(wire.Capabilities(true))), wire.Capabilities(true)); diff != "" {
		t.Errorf("not sorted: %s", diff)
	}
	for _, name := range wire.Capabilities(true) {
		proof, ok := proofs[name]
		if !ok {
			t.Errorf("%s has no proof", name)
			continue
		}
		t.Run(name, func(t *testing.T) { proof(t, newFixture(t)) })
	}
}

func TestEveryCapabilityIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range wire.Capabilities(true) {
		if !strings.Contains(string(doc), "\n| `"+name+"` | ") {
			t.Errorf("docs/errors.md lacks %s", name)
		}
	}
}
