package api

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

const (
	specOne = "os:\n  sysexts:\n    - url: https://host/one.raw\n      sha384: " + sumOne + "\n      path: /var/lib/extensions/one.raw\n"
	specTwo = "os:\n  netplan:\n    version: 2\n"
	sumOne  = "111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"
)

func (f *fixture) record(t *testing.T, all ...hoststate.Status) {
	t.Helper()
	for _, s := range all {
		s.TridentVersion = "1.2.3"
		if err := f.store.Record(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

func stateOf(t *testing.T, f *fixture) tridentv1preview.ServicingState {
	t.Helper()
	resp, err := tridentv1preview.NewStatusServiceClient(f.conn).GetServicingState(t.Context(), &tridentv1preview.GetServicingStateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetState()
}

func TestAFreshHostIsNotProvisioned(t *testing.T) {
	f := newFixture(t)
	client := tridentv1preview.NewStatusServiceClient(f.conn)
	if got := stateOf(t, f); got != tridentv1preview.ServicingState_NOT_PROVISIONED {
		t.Errorf("state %s", got)
	}
	volume, err := client.GetActiveVolume(t.Context(), &tridentv1preview.GetActiveVolumeRequest{})
	if err != nil || volume.GetActiveVolume() != tridentv1preview.ABVolumeState_NO_VOLUME {
		t.Errorf("volume %v, %v", volume, err)
	}
	_, err = client.GetProvisionedConfig(t.Context(), &tridentv1preview.GetConfigRequest{})
	if _, _, meta := grpckind.FromError(err); status.Code(err) != codes.InvalidArgument || meta[grpckind.MetaName] != "HostNotProvisioned" {
		t.Errorf("config: %v, %v", err, meta)
	}
	next, err := client.GetServicingConfig(t.Context(), &tridentv1preview.GetConfigRequest{})
	if err != nil || next.GetConfig() != nil {
		t.Errorf("servicing config %v, %v", next, err)
	}
	last, err := client.GetLastError(t.Context(), &tridentv1preview.GetLastErrorRequest{})
	if err != nil || last.GetError() != nil {
		t.Errorf("last error %v, %v", last, err)
	}
	check, err := tridentv1preview.NewRollbackServiceClient(f.conn).CheckRollback(t.Context(), &tridentv1preview.CheckRollbackRequest{})
	if err != nil || check.GetKind() != tridentv1preview.CheckRollbackKind_NO_ROLLBACK_AVAILABLE {
		t.Errorf("rollback %v, %v", check, err)
	}
	target, err := tridentv1preview.NewRollbackServiceClient(f.conn).GetRollbackTarget(t.Context(), &tridentv1preview.GetRollbackTargetRequest{})
	if err != nil || target.RollbackTarget != nil {
		t.Errorf("target %v, %v", target, err)
	}
}

func TestEveryPhaseIsAServicingState(t *testing.T) {
	seen := map[tridentv1preview.ServicingState]bool{}
	for _, p := range []hoststate.Phase{
		hoststate.Fresh{}, hoststate.Settled{}, hoststate.StagedInstall, hoststate.StagedABUpdate, hoststate.StagedRuntimeUpdate,
		hoststate.StagedABRollback, hoststate.StagedRuntimeRollback, hoststate.TryingInstall, hoststate.TryingABUpdate,
		hoststate.TryingABUpdateFailed, hoststate.TryingABRollback,
	} {
		got := stateToWire(p)
		if got == tridentv1preview.ServicingState_SERVICING_STATE_UNSPECIFIED || seen[got] {
			t.Errorf("%s is %s", p.State(), got)
		}
		seen[got] = true
	}
	if len(seen) != len(tridentv1preview.ServicingState_name)-1 {
		t.Errorf("%d states of %d", len(seen), len(tridentv1preview.ServicingState_name)-1)
	}
}

func TestAStagedUpdateHasTwoConfigurations(t *testing.T) {
	f := newFixture(t)
	f.record(t,
		hoststate.Status{Phase: hoststate.Settled{}, Spec: specOne, ABActiveVolume: hoststate.VolumeB},
		hoststate.Status{Phase: hoststate.StagedRuntimeUpdate, Spec: specTwo, SpecOld: specOne, ABActiveVolume: hoststate.VolumeB},
	)
	client := tridentv1preview.NewStatusServiceClient(f.conn)
	runs, err := client.GetProvisionedConfig(t.Context(), &tridentv1preview.GetConfigRequest{})
	if err != nil || !strings.Contains(runs.GetConfig().GetConfig(), "https://host/one.raw") {
		t.Errorf("runs %v, %v", runs, err)
	}
	next, err := client.GetServicingConfig(t.Context(), &tridentv1preview.GetConfigRequest{})
	if err != nil || !strings.Contains(next.GetConfig().GetConfig(), "netplan") {
		t.Errorf("next %v, %v", next, err)
	}
	volume, err := client.GetActiveVolume(t.Context(), &tridentv1preview.GetActiveVolumeRequest{})
	if err != nil || volume.GetActiveVolume() != tridentv1preview.ABVolumeState_VOLUME_B {
		t.Errorf("volume %v, %v", volume, err)
	}
	if got := stateOf(t, f); got != tridentv1preview.ServicingState_UPDATE_RUNTIME_STAGED {
		t.Errorf("state %s", got)
	}
}

func TestAHostOnTrialSaysWhatItTries(t *testing.T) {
	for phase, want := range map[hoststate.Trying]struct {
		state    tridentv1preview.ServicingState
		old, now string
	}{
		hoststate.TryingInstall:        {tridentv1preview.ServicingState_INSTALL_FINALIZED, "", specTwo},
		hoststate.TryingABUpdate:       {tridentv1preview.ServicingState_UPDATE_AB_FINALIZED, specOne, specTwo},
		hoststate.TryingABUpdateFailed: {tridentv1preview.ServicingState_UPDATE_AB_HEALTH_CHECK_FAILED, specOne, specTwo},
		hoststate.TryingABRollback:     {tridentv1preview.ServicingState_MANUAL_ROLLBACK_AB_FINALIZED, specOne, specTwo},
	} {
		t.Run(string(phase), func(t *testing.T) {
			f := newFixture(t)
			f.record(t, hoststate.Status{Phase: phase, Spec: want.now, SpecOld: want.old, ABActiveVolume: hoststate.VolumeA})
			got, err := hostv1.NewHostServiceClient(f.conn).GetHost(t.Context(), &hostv1.GetHostRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if got.GetPhase() != hostv1.HostPhase_HOST_PHASE_TRYING || got.GetServicingState() != string(phase) || !got.GetDatastore().GetSound() {
				t.Errorf("host %v", got)
			}
			if strings.Contains(got.GetConfig(), "one.raw") != (want.old != "") || !strings.Contains(got.GetNextConfig(), "netplan") {
				t.Errorf("runs %q, next %q", got.GetConfig(), got.GetNextConfig())
			}
			for _, line := range []string{"servicingState: " + string(phase) + "\n", "abActiveVolume: volume-a\n", "netplan"} {
				if !strings.Contains(got.GetHostStatus(), line) {
					t.Errorf("%q is not in:\n%s", line, got.GetHostStatus())
				}
			}
			if state := stateOf(t, f); state != want.state {
				t.Errorf("state %s", state)
			}
			client := tridentv1preview.NewStatusServiceClient(f.conn)
			runs, err := client.GetProvisionedConfig(t.Context(), &tridentv1preview.GetConfigRequest{})
			if (want.old == "") != (err != nil) || strings.Contains(runs.GetConfig().GetConfig(), "netplan") {
				t.Errorf("it runs %v, %v", runs, err)
			}
			check, err := tridentv1preview.NewRollbackServiceClient(f.conn).CheckRollback(t.Context(), &tridentv1preview.CheckRollbackRequest{})
			if err != nil || check.GetKind() != tridentv1preview.CheckRollbackKind_NO_ROLLBACK_AVAILABLE {
				t.Errorf("a rollback would be %v, %v", check, err)
			}
		})
	}
}

// updated is a host with one runtime update behind it.
func updated(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.record(t,
		hoststate.Status{Phase: hoststate.Settled{}, Spec: specOne, ABActiveVolume: hoststate.VolumeA, InstallIndex: 1},
		hoststate.Status{Phase: hoststate.StagedRuntimeUpdate, Spec: specTwo, SpecOld: specOne, ABActiveVolume: hoststate.VolumeA, InstallIndex: 1},
		hoststate.Status{Phase: hoststate.Settled{}, Spec: specTwo, ABActiveVolume: hoststate.VolumeA, InstallIndex: 1},
	)
	return f
}

func TestCheckRollbackReportsTheKindOfRollback(t *testing.T) {
	f := updated(t)
	client := tridentv1preview.NewRollbackServiceClient(f.conn)
	for want, got := range map[tridentv1preview.ManualRollbackKind]tridentv1preview.CheckRollbackKind{
		tridentv1preview.ManualRollbackKind_MANUAL_ROLLBACK_KIND_UNSPECIFIED: tridentv1preview.CheckRollbackKind_RUNTIME_ROLLBACK_EXPECTED,
		tridentv1preview.ManualRollbackKind_ANY_ROLLBACK_REQUESTED:           tridentv1preview.CheckRollbackKind_RUNTIME_ROLLBACK_EXPECTED,
		tridentv1preview.ManualRollbackKind_RUNTIME_ROLLBACK_REQUESTED:       tridentv1preview.CheckRollbackKind_RUNTIME_ROLLBACK_EXPECTED,
		tridentv1preview.ManualRollbackKind_AB_ROLLBACK_REQUESTED:            tridentv1preview.CheckRollbackKind_NO_ROLLBACK_AVAILABLE,
	} {
		resp, err := client.CheckRollback(t.Context(), &tridentv1preview.CheckRollbackRequest{Kind: want})
		if err != nil || resp.GetKind() != got {
			t.Errorf("%s: %v, %v", want, resp, err)
		}
	}
	target, err := client.GetRollbackTarget(t.Context(), &tridentv1preview.GetRollbackTargetRequest{})
	if err != nil || !strings.Contains(target.GetRollbackTarget(), "https://host/one.raw") {
		t.Errorf("target %v, %v", target, err)
	}
	chain, err := client.GetRollbackChain(t.Context(), &tridentv1preview.GetRollbackChainRequest{})
	if err != nil || len(chain.GetRollbackChain()) != 1 {
		t.Fatalf("chain %v, %v", chain, err)
	}
	golden(t, "testdata/chain.golden", chain.GetRollbackChain()[0])
}

func TestStatusReportsTheLastError(t *testing.T) {
	f := newFixture(t)
	f.record(t, hoststate.Status{Phase: hoststate.Settled{}, Spec: specOne, LastError: &hoststate.LastError{
		Message: "no", Name: "write-netplan-config", Category: "servicing", Location: "somewhere",
	}})
	got, err := tridentv1preview.NewStatusServiceClient(f.conn).GetLastError(t.Context(), &tridentv1preview.GetLastErrorRequest{})
	want := &tridentv1.TridentError{
		Kind: tridentv1.TridentErrorKind_SERVICING_ERROR, Subkind: "write-netplan-config", Message: "no", ErrorMessage: "no",
		Location: &tridentv1.FileLocation{Path: "somewhere"},
	}
	if diff := cmp.Diff(want, got.GetError(), protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestStatusReportsEveryPartOfTheHost(t *testing.T) {
	f := updated(t)
	f.record(t, hoststate.Status{Phase: hoststate.StagedRuntimeUpdate, Spec: specTwo, SpecOld: specOne, ABActiveVolume: hoststate.VolumeA})
	id := f.work()
	client := hostv1.NewHostServiceClient(f.conn)
	got, err := client.GetHost(t.Context(), &hostv1.GetHostRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantExtensions := []*hostv1.ActiveExtension{{Kind: "sysext", Path: "/var/lib/extensions/one.raw", Url: "https://host/one.raw", Sha384: sumOne}}
	if diff := cmp.Diff(wantExtensions, got.GetExtensions(), protocmp.Transform()); diff != "" {
		t.Errorf("extensions (-want +got):\n%s", diff)
	}
	if got.GetPhase() != hostv1.HostPhase_HOST_PHASE_STAGED || got.GetServicingState() != "runtime-update-staged" || got.GetActiveVolume() != "volume-a" ||
		got.GetConfig() == "" || got.GetNextConfig() == "" || got.GetRecordedBy() != "1.2.3" || got.GetOperation().GetId() != id || !got.GetDatastore().GetSound() {
		t.Errorf("got %v", got)
	}
	for _, want := range []string{"spec:\n", "specOld:\n", "servicingState: runtime-update-staged\n", "abActiveVolume: volume-a\n"} {
		if !strings.Contains(got.GetHostStatus(), want) {
			t.Errorf("upstream's form lacks %q:\n%s", want, got.GetHostStatus())
		}
	}
	back := updated(t)
	if got, err = hostv1.NewHostServiceClient(back.conn).GetHost(t.Context(), &hostv1.GetHostRequest{}); err != nil {
		t.Fatal(err)
	}
	if targets := got.GetRollbackTargets(); len(targets) != 1 || targets[0].GetKind() != "runtime" || targets[0].GetInstallIndex() != 1 || targets[0].GetActiveVolume() != "volume-a" {
		t.Errorf("targets %v", targets)
	}
}

func TestAHostWithADamagedRecordSaysSo(t *testing.T) {
	f := newFixture(t)
	f.record(t, hoststate.Status{Phase: hoststate.Settled{}, Spec: specOne})
	if err := os.WriteFile(filepath.Join(f.root, "datastore.damaged-20260101T000000.000000000Z"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := hostv1.NewHostServiceClient(f.conn).GetHost(t.Context(), &hostv1.GetHostRequest{})
	if err != nil || got.GetPhase() != hostv1.HostPhase_HOST_PHASE_SETTLED {
		t.Fatalf("%v, %v", got, err)
	}
	if got.GetDatastore().GetSound() || !strings.Contains(got.GetDatastore().GetMessage(), "datastore.damaged-") {
		t.Errorf("datastore %v", got.GetDatastore())
	}
}

func TestAHostWithAnUnreadableRecordReportsThePreviousRecord(t *testing.T) {
	f := newFixture(t)
	f.record(t, hoststate.Status{Phase: hoststate.Settled{}, Spec: specOne})
	db, err := sql.Open("sqlite", filepath.Join(f.root, "datastore"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "INSERT INTO hoststatus (contents) VALUES ('servicingState: [')"); err != nil {
		t.Fatal(err)
	}
	got, err := hostv1.NewHostServiceClient(f.conn).GetHost(t.Context(), &hostv1.GetHostRequest{})
	if err != nil || got.GetPhase() != hostv1.HostPhase_HOST_PHASE_SETTLED || got.GetConfig() == "" {
		t.Errorf("%v, %v", got, err)
	}
	if got.GetHostStatus() != "" || got.GetDatastore().GetSound() || !strings.Contains(got.GetDatastore().GetMessage(), "parse host status in row") {
		t.Errorf("datastore %v", got.GetDatastore())
	}
	_, err = tridentv1preview.NewStatusServiceClient(f.conn).GetServicingState(t.Context(), &tridentv1preview.GetServicingStateRequest{})
	if _, hint, meta := grpckind.FromError(err); status.Code(err) != codes.FailedPrecondition || meta[grpckind.MetaName] != "ParseHostStatus" || hint == "" {
		t.Errorf("upstream's status: %v, %v", err, meta)
	}
	rollback := tridentv1preview.NewRollbackServiceClient(f.conn)
	_, check := rollback.CheckRollback(t.Context(), &tridentv1preview.CheckRollbackRequest{})
	_, chain := rollback.GetRollbackChain(t.Context(), &tridentv1preview.GetRollbackChainRequest{})
	_, target := rollback.GetRollbackTarget(t.Context(), &tridentv1preview.GetRollbackTargetRequest{})
	for _, err := range []error{check, chain, target} {
		if _, _, meta := grpckind.FromError(err); meta[grpckind.MetaName] != "ParseHostStatus" {
			t.Errorf("the way back of a host whose record cannot be read: %v", err)
		}
	}
}
